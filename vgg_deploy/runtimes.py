"""One net, several ways to run it. Every runtime takes the same pictures and gives the same two results."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from vgg_deploy.artifact import KEY, Artifact, check_manifest, feed
from vgg_deploy.errors import InputError
from vgg_deploy.machine import pick_device
from vgg_deploy.model import VGG, posterior
from vgg_deploy.nets import open_net
from vgg_deploy.spec import NetSpec

# ONNX Runtime's exceptions have no base class of their own
LOAD_FAILURES = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented", "RuntimeException")


class Scores(NamedTuple):
    """What a net says of a batch."""

    posterior: np.ndarray  # (N, classes) float32; softmax of the spatial mean of the scores
    score_map: np.ndarray  # (N, classes, h, w) float32 logits


class Runtime(Protocol):
    """A net ready to run: who holds one can call it."""

    spec: NetSpec
    runtime: str  # "torch", "onnxruntime"
    precision: str  # "fp32", ...
    device: str  # "cpu", "cuda"
    threads: int
    artifact: Artifact | None  # where an exported file comes from; None: these are the weights themselves

    def __call__(self, images: np.ndarray) -> Scores:
        """(N, 3, H, W) uint8 RGB -> scores in host memory on return, so that a wall clock may time the call."""
        ...


class TorchRuntime:
    """The PyTorch net itself: the reference that every exported file is compared with."""

    runtime, precision, artifact = "torch", "fp32", None

    def __init__(self, net: VGG, device: str = "cpu", threads: int = 1):
        torch.set_num_threads(threads)
        self.spec, self.device, self.threads = net.spec, pick_device(device), threads
        # channels_last is the layout that PyTorch's CPU and GPU convolutions run fastest in
        self.net = net.eval().to(device, memory_format=torch.channels_last)
        self.mean = torch.tensor(net.spec.preprocessing.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Scores:
        pixels = torch.from_numpy(images).to(self.device)
        score_map = self.net((pixels.float() - self.mean).contiguous(memory_format=torch.channels_last))
        return Scores(posterior(score_map).cpu().numpy(), score_map.contiguous().cpu().numpy())


class OnnxRuntime:
    """A file of vgg-export in ONNX Runtime; what it wants as input stands in its own metadata."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1, optimisation: str = "ENABLE_ALL"):
        """optimisation: ONNX Runtime's own word, ENABLE_ALL or ENABLE_EXTENDED. ENABLE_ALL also reorders weights for the
        CPU's vector units, which is faster to run and takes four times the file's size in memory while loading."""
        refuse_two_onnxruntimes()
        check_manifest(path)
        import onnxruntime as ort  # here, so that PyTorch users need not load it
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{optimisation}")
        options.log_severity_level = 4  # failures come back as exceptions
        if device != "cpu":
            ort.preload_dlls()
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            self.session = ort.InferenceSession(str(path), options, providers=[provider], enable_fallback=0)
            metadata = self.session.get_modelmeta().custom_metadata_map
            inputs = {i.name: i.type for i in self.session.get_inputs()}
            outputs = {o.name: o.shape for o in self.session.get_outputs()}
        except (*(getattr(failures, name) for name in LOAD_FAILURES), UnicodeDecodeError) as error:  # the last from damaged names
            if device != "cpu":
                raise InputError(
                    f"device {device}: ONNX Runtime cannot run {path} on {provider} ({_first_line(error)}); "
                    "use --device cpu, or install onnxruntime-gpu with the CUDA and cuDNN it was built for"
                ) from None
            raise InputError(f"{path}: not a model that ONNX Runtime can load ({_first_line(error)}); export it again") from None
        if self.session.get_providers()[0] != provider:  # it falls back with a mere line in the log
            raise InputError(
                f"device {device}: ONNX Runtime fell back to {self.session.get_providers()[0]}; "
                "install onnxruntime-gpu for this CUDA, or use --device cpu"
            )
        if KEY not in metadata:
            raise InputError(f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; export it with vgg-export --onnx")
        self.artifact = Artifact.from_json(metadata[KEY], str(path))
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.device, self.threads = device, threads
        self._check_interface(path, inputs, outputs)

    def __call__(self, images: np.ndarray) -> Scores:
        return Scores(*self.session.run(["posterior", "score_map"], {"image": feed(images, self.artifact.input)}))

    def _check_interface(self, path: Path, inputs: dict[str, str], outputs: dict[str, list]) -> None:
        """The graph's own input and outputs against what the metadata claims."""
        wanted = {"image": "tensor(uint8)" if self.artifact.input == "uint8" else "tensor(float)"}
        if inputs != wanted:
            raise InputError(f"{path}: its metadata promises input {wanted}, the graph has {inputs}; export it again")
        classes = len(self.spec.classes)
        if any(outputs.get(name, [])[1:2] != [classes] for name in ("posterior", "score_map")):
            raise InputError(f"{path}: its metadata promises posterior and score_map of {classes} classes, the graph gives {outputs}; export it again")


def open_runtime(path: Path, device: str = "cpu", threads: int = 1) -> Runtime:
    """A file ready to run, by its suffix: .onnx in ONNX Runtime, everything else as weights in PyTorch.

    Raises: InputError if the file is no model, or its runtime or the device is not there; never another one instead.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a checkpoint (.pt) or an exported model (.onnx)")
    if path.suffix == ".onnx":
        return OnnxRuntime(path, device, threads)
    return TorchRuntime(open_net(path), device, threads)


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
