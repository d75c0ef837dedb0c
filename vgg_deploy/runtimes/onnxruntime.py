"""A file of vgg-export in ONNX Runtime, on the CPU, on CUDA, or through its TensorRT provider."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.cache import cache_folder
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import KEY, Artifact, check_manifest
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.runtimes.contract import Scores, checked, empty_scores, feed, to_host

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
    """What the file wants as input stands in its own metadata."""

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int = 1,
        runtime: str = "onnxruntime",
        optimisation: str = "ENABLE_ALL",
        arena: bool = True,
    ):
        """Args: runtime, onnxruntime or onnxruntime-tensorrt, which builds an engine of its own for every new shape and keeps
        it in the cache folder; optimisation, ONNX Runtime's own word, ENABLE_ALL or ENABLE_EXTENDED. ENABLE_ALL also reorders weights for the
        CPU's vector units, which is faster to run and takes four times the file's size in memory while loading; arena, keep memory of
        activations for the next call.

        Raises: InputError, before ONNX Runtime sees the file, if its weights are anywhere but beside it.
        """
        refuse_two_onnxruntimes()
        data_files(path)
        check_manifest(path)
        import onnxruntime as ort  # here, so that PyTorch users need not load it
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        if (runtime, device) not in PROVIDERS:
            raise InputError(f"the runtime {runtime} needs a GPU", "run it on cuda", "cuda")
        self.name, provider = runtime, PROVIDERS[runtime, device]
        self.where = str(path)
        self.failures = tuple(getattr(failures, name) for name in LOAD_FAILURES)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, f"ORT_{optimisation}"
        )
        options.enable_cpu_mem_arena = arena
        options.log_severity_level = 4  # failures come back as exceptions
        if device != "cpu":
            ort.preload_dlls()
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self.settings = {"provider": provider, "graph_optimization": optimisation}
        settings = (
            {"use_tf32": "0"} if provider == "CUDAExecutionProvider" else {}
        )  # float32 means float32 here
        if runtime == "onnxruntime-tensorrt":
            settings = {
                "trt_engine_cache_enable": "1",
                "trt_timing_cache_enable": "1",
                "trt_engine_cache_path": str(cache_folder() / "onnxruntime-tensorrt"),
            }
        try:
            self.session = ort.InferenceSession(
                str(path), options, providers=[(provider, settings)], enable_fallback=0
            )
            metadata = self.session.get_modelmeta().custom_metadata_map
            inputs = {i.name: i.type for i in self.session.get_inputs()}
            outputs = {o.name: (o.type, o.shape) for o in self.session.get_outputs()}
        except (*self.failures, UnicodeDecodeError) as error:  # the last from damaged names
            if device != "cpu":
                raise InputError(
                    f"device {device}: ONNX Runtime cannot run {path} on {provider} ({_first_line(error)})",
                    "run it on the CPU, or install onnxruntime-gpu with the CUDA and cuDNN it was built for",
                    "device",
                ) from None
            if "Could not find an implementation" in str(error):
                raise InputError(
                    f"{path}: ONNX Runtime has no CPU kernels for its types ({_first_line(error)})",
                    "run it on cuda, or use another precision",
                    "cuda or precision",
                ) from None
            raise InputError(
                f"{path}: not a model that ONNX Runtime can load ({_first_line(error)}); export it again"
            ) from None
        if self.session.get_providers()[0] != provider:  # it falls back with a mere line in the log
            raise InputError(
                f"device {device}: ONNX Runtime fell back to {self.session.get_providers()[0]}",
                "install onnxruntime-gpu for this CUDA, or run it on the CPU",
                "device",
            )
        if KEY not in metadata:
            raise InputError(
                f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; export it with vgg-export"
            )
        self.artifact = Artifact.from_json(metadata[KEY], str(path))
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.device, self.threads = device, threads
        self._check_interface(path, inputs, outputs)

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Without copies: ONNX Runtime reads and writes PyTorch's tensors."""
        image, scores = (
            feed(pixels, self.artifact.input).contiguous(),
            empty_scores(self.spec, pixels),
        )
        binding = self.session.io_binding()
        for bind, name, tensor in (
            (binding.bind_input, "image", image),
            (binding.bind_output, "posterior", scores[0]),
            (binding.bind_output, "score_map", scores[1]),
        ):
            dtype = np.uint8 if tensor.dtype == torch.uint8 else np.float32
            bind(
                name,
                tensor.device.type,
                tensor.device.index or 0,
                dtype,
                tuple(tensor.shape),
                tensor.data_ptr(),
            )
        torch.cuda.current_stream().synchronize()  # ONNX Runtime works on a stream of its own
        try:
            self.session.run_with_iobinding(binding)
        except self.failures as error:
            raise self._run_failure(tuple(pixels.shape), error) from None
        return scores

    def __call__(self, images: np.ndarray) -> Scores:
        if self.device == "cpu":
            outputs = self._on_cpu(images)
        else:
            outputs = to_host(self.on_device(torch.from_numpy(images).to(self.device)))
        return checked(outputs, images, self.spec, self.where)

    def _on_cpu(self, images: np.ndarray) -> tuple[Any, Any]:
        image = feed(torch.from_numpy(images), self.artifact.input).numpy()
        try:
            posterior, score_map = self.session.run(["posterior", "score_map"], {"image": image})
        except self.failures as error:
            raise self._run_failure(images.shape, error) from None
        return posterior, score_map

    def _run_failure(self, shape: tuple[int, ...], error: Exception) -> InputError:
        """What to tell of an error of ONNX Runtime's in a call. Args: shape, (N, 3, H, W), of the images."""
        return InputError(
            f"{self.where}: ONNX Runtime cannot run it on {shape[0]} images of {shape[2]}x{shape[3]} "
            f"({_first_line(error)}); export it again, or free memory if that is the reason"
        )

    def _check_interface(
        self, path: Path, inputs: dict[str, str], outputs: dict[str, tuple[str, list]]
    ) -> None:
        """The graph's own input and outputs against what the metadata claims."""
        wanted = {"image": "tensor(uint8)" if self.artifact.input == "uint8" else "tensor(float)"}
        if inputs != wanted:
            raise InputError(
                f"{path}: its metadata promises input {wanted}, the graph has {inputs}; export it again"
            )
        classes = len(self.spec.classes)
        for name, rank in (("posterior", 2), ("score_map", 4)):
            kind, shape = outputs.get(name, ("", []))
            if kind != "tensor(float)" or len(shape) != rank or shape[1] != classes:
                raise InputError(
                    f"{path}: its metadata promises posterior and score_map of {classes} classes, "
                    f"the graph gives {outputs}; export it again"
                )


def refuse_two_onnxruntimes() -> None:
    """The CPU and the GPU wheel overwrite each other's files, and which one answers is chance."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {distribution(name).version}")
        except PackageNotFoundError:
            continue
    if len(found) > 1:
        raise InputError(
            f"{' and '.join(found)} are both installed and overwrite each other; run "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu` (it runs on CPUs too)"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
