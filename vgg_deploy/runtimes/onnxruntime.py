"""Runs a file of vgg-export in ONNX Runtime: on the CPU, on CUDA, or through TensorRT."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN, KEY, Artifact, check_manifest
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.net.outputs import SCORES, output_shape
from vgg_deploy.runtimes.contract import (
    Outputs,
    Scores,
    checked,
    empty_outputs,
    feed,
    give_scores,
    require,
    to_host,
)
from vgg_deploy.runtimes.packages import runtime_package

# ONNX Runtime's exceptions have no base class of their own
LOAD_FAILURES = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)
PROVIDERS = {  # by runtime and device
    ("onnxruntime", "cpu"): "CPUExecutionProvider",
    ("onnxruntime", "cuda"): "CUDAExecutionProvider",
    ("onnxruntime-tensorrt", "cuda"): "TensorrtExecutionProvider",
}


class OnnxRuntime:
    """An ONNX file in ONNX Runtime; its own metadata states which input it takes."""

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int = 1,
        runtime: str = "onnxruntime",
        optimisation: str = "ENABLE_ALL",
        arena: bool = True,
    ):
        """Open a file.

        Args:
            path: Written by vgg-export.
            device: "cpu" or "cuda".
            threads: On the CPU.
            runtime: "onnxruntime" or "onnxruntime-tensorrt". The latter builds an engine of its own
                for every new shape and keeps it in the cache folder.
            optimisation: ONNX Runtime's own word, ENABLE_ALL or ENABLE_EXTENDED. ENABLE_ALL also
                reorders weights for the CPU's vector units. That is faster to run, and takes four
                times the file's size in memory while loading.
            arena: Keep the memory of activations for the next call.

        Raises:
            InputError: If the file, the runtime or the device cannot be used. Weights that are not
                beside the file are refused before ONNX Runtime sees it.
        """
        runtime_package(runtime)  # refuses two of them
        data_files(path)
        check_manifest(path)
        import onnxruntime as ort  # here, so that PyTorch users need not load it
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        if (runtime, device) not in PROVIDERS:
            raise InputError(f"the runtime {runtime} needs a GPU", "run it on cuda", "cuda")
        provider = PROVIDERS[runtime, device]
        self.name, self.device, self.threads, self.where = runtime, device, threads, str(path)
        self.settings = {"provider": provider, "graph_optimization": optimisation}
        self.failures: tuple[type[Exception], ...] = tuple(
            getattr(failures, name) for name in LOAD_FAILURES
        )
        if device != "cpu":
            ort.preload_dlls()
        options = _session_options(ort, device, threads, optimisation, arena)
        opened = self._open(ort, options, provider)
        if KEY not in opened.metadata:
            raise InputError(
                f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; "
                "export it with vgg-export"
            )
        self.session = opened.session
        self.artifact = Artifact.from_json(opened.metadata[KEY], str(path))
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.outputs = self.artifact.outputs
        self._check_inputs(opened.inputs)
        self._check_outputs(opened.outputs)

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch without copies: ONNX Runtime reads and writes PyTorch's tensors.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            As `DeviceRuntime.on_device`.

        Raises:
            InputError: If ONNX Runtime cannot run the file on it.
        """
        scores = self._bound(pixels, SCORES)
        return scores["posterior"], scores["score_map"]

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`."""
        require(self.where, self.outputs, outputs)
        if self.device == "cpu":
            return checked(self._on_cpu(images, outputs), images, self.spec, self.where)
        found = to_host(self._bound(torch.from_numpy(images).to(self.device), outputs))
        return checked(found, images, self.spec, self.where)

    def _bound(self, pixels: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Run a batch on the device."""
        image = feed(pixels, self.artifact.input).contiguous()
        found = empty_outputs(self.spec, outputs, pixels)
        binding = self.session.io_binding()
        binding.bind_input("image", *_buffer(image))
        for name, tensor in found.items():
            binding.bind_output(name, *_buffer(tensor))
        torch.cuda.current_stream().synchronize()  # ONNX Runtime works on a stream of its own
        try:
            self.session.run_with_iobinding(binding)
        except self.failures as error:
            raise self._run_failure(tuple(pixels.shape), error) from None
        return found

    def _open(self, ort: ModuleType, options: Any, provider: str) -> "_Opened":
        """Load the file into ONNX Runtime, and refuse its fallback to another provider."""
        # The last of them from damaged names
        load_failures: tuple[type[Exception], ...] = (*self.failures, UnicodeDecodeError)
        providers = [(provider, _provider_options(provider))]
        try:
            session = ort.InferenceSession(
                self.where, options, providers=providers, enable_fallback=0
            )
            opened = _Opened(
                session,
                session.get_modelmeta().custom_metadata_map,
                {i.name: i.type for i in session.get_inputs()},
                {o.name: (o.type, o.shape) for o in session.get_outputs()},
            )
        except load_failures as error:
            raise self._load_failure(error, provider) from None
        used = session.get_providers()[0]
        if used != provider:  # it falls back with a mere line in the log
            raise InputError(
                f"device {self.device}: ONNX Runtime fell back to {used}",
                "install onnxruntime-gpu for this CUDA, or run it on the CPU",
                "device",
            )
        return opened

    def _on_cpu(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, object]:
        image = feed(torch.from_numpy(images), self.artifact.input).numpy()
        try:
            found = self.session.run(list(outputs), {"image": image})
        except self.failures as error:
            raise self._run_failure(images.shape, error) from None
        return dict(zip(outputs, found, strict=True))

    def _load_failure(self, error: Exception, provider: str) -> InputError:
        """Explain an error of ONNX Runtime while loading the file."""
        reason = _first_line(error)
        if self.device != "cpu":
            return InputError(
                f"device {self.device}: ONNX Runtime cannot run {self.where} on {provider} "
                f"({reason})",
                "run it on the CPU, or install onnxruntime-gpu with the CUDA and cuDNN it was "
                "built for",
                "device",
            )
        if "Could not find an implementation" in str(error):
            return InputError(
                f"{self.where}: ONNX Runtime has no CPU kernels for its types ({reason})",
                "run it on cuda, or use another precision",
                "cuda or precision",
            )
        return InputError(
            f"{self.where}: not a model that ONNX Runtime can load ({reason})", EXPORT_AGAIN
        )

    def _run_failure(self, shape: Sequence[int], error: Exception) -> InputError:
        """Explain an error of ONNX Runtime in a call with images of shape (N, 3, H, W)."""
        return InputError(
            f"{self.where}: ONNX Runtime cannot run it on {shape[0]} images of "
            f"{shape[2]}x{shape[3]} ({_first_line(error)}); "
            "export it again, or free memory if that is the reason"
        )

    def _check_inputs(self, inputs: dict[str, str]) -> None:
        """Compare the graph's inputs, name -> type, with the metadata."""
        kind = "tensor(uint8)" if self.artifact.input == "uint8" else "tensor(float)"
        promised = {"image": kind}
        if inputs != promised:
            raise InputError(
                f"{self.where}: its metadata promises input {promised}, the graph has {inputs}",
                EXPORT_AGAIN,
            )

    def _check_outputs(self, outputs: dict[str, tuple[str, list[int | str]]]) -> None:
        """Compare the graph's outputs, name -> (type, shape), with the metadata."""
        for name in self.outputs:
            expected = output_shape(self.spec, name, (1, 3, self.spec.crop, self.spec.crop))
            kind, shape = outputs.get(name, ("", []))
            fits = len(shape) == len(expected) and shape[1] == expected[1]
            if kind != "tensor(float)" or not fits:
                raise InputError(
                    f"{self.where}: its metadata promises {name} of {expected[1]} channels, the "
                    f"graph gives {outputs}",
                    EXPORT_AGAIN,
                )


class _Opened(NamedTuple):
    """A file in ONNX Runtime, and what it states about itself."""

    session: Any
    metadata: dict[str, str]
    inputs: dict[str, str]  # name -> type
    outputs: dict[str, tuple[str, list[int | str]]]  # name -> type and shape


def _session_options(
    ort: ModuleType, device: str, threads: int, optimisation: str, arena: bool
) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{optimisation}")
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 4  # failures come back as exceptions
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _provider_options(provider: str) -> dict[str, str]:
    match provider:
        case "CUDAExecutionProvider":
            return {"use_tf32": "0"}  # float32 means float32 here
        case "TensorrtExecutionProvider":
            engines = writable_folder(cache_folder() / "onnxruntime-tensorrt")
            return {
                "trt_engine_cache_enable": "1",
                "trt_timing_cache_enable": "1",
                "trt_engine_cache_path": str(engines),
            }
    return {}


def _buffer(tensor: Tensor) -> tuple[str, int, type[np.generic], tuple[int, ...], int]:
    """A tensor as ONNX Runtime binds it: device, its index, type, shape and address."""
    dtype = np.uint8 if tensor.dtype == torch.uint8 else np.float32
    index = tensor.device.index or 0
    return tensor.device.type, index, dtype, tuple(tensor.shape), tensor.data_ptr()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
