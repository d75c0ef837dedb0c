"""Runs a TensorRT engine of either flavour on tensors on the GPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import (
    INPUTS,
    OUTPUT,
    DistanceArtifact,
    not_a_classifier,
    not_a_distance,
)
from vgg_deploy.exported.trt_manifest import REBUILD, InputShape, check_engine
from vgg_deploy.exported.trt_packages import FLAVOURS, Flavour, collecting_logger, errors_of
from vgg_deploy.machine import pick_device
from vgg_deploy.net.outputs import SCORES
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
from vgg_deploy.runtimes.distances import checked_distances
from vgg_deploy.runtimes.graph_interface import (
    fixed_batches,
    joined_batches,
    refuse_other_shape,
    softmax_of_logits,
)
from vgg_deploy.runtimes.rtx_cache import RuntimeCache, cache_path


class OpenedEngine:
    """One execution context per profile; a call uses the profile whose optimum is nearest."""

    def __init__(self, path: Path, device: str = "cuda", threads: int = 1):
        """Open an engine of any kind.

        Args:
            path: The engine, with its manifest beside it.
            device: "cuda".
            threads: Reported only; the GPU computes.

        Raises:
            InputError: For another device or GPU, another version of TensorRT, or a file that is
                damaged or outdated.
        """
        self.manifest = check_engine(path)
        self.device, self.threads, self.where = device, threads, str(path)
        self.settings: dict[str, str] = {}
        if device != "cuda":
            raise InputError(
                f"{path}: TensorRT engines run on GPUs only",
                f"run it on cuda, or {self.manifest.onnx} on the CPU",
                "cuda",
            )
        flavour = FLAVOURS[self.manifest.flavour]
        self.name = flavour.runtime
        trt = flavour.load()
        self._check_version(flavour)
        self._check_gpu()
        self.log = collecting_logger(trt)
        loader = trt.Runtime(self.log)
        self.engine: Any = loader.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise InputError(f"{path}: TensorRT does not load it ({errors_of(self.log)})", REBUILD)
        self.kernels: RuntimeCache | None = None
        if flavour.name == "rtx":
            gpu = torch.cuda.get_device_name()
            path_of_kernels = cache_path(self.manifest.sha256, flavour.version(), gpu)
            self.kernels = RuntimeCache(self.engine, path_of_kernels)
        self.contexts = [self._context(i) for i in range(self.engine.num_optimization_profiles)]

    def execute(
        self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], what: str
    ) -> None:
        """Run a batch that is on the device, queued on PyTorch's current stream.

        Args:
            inputs: (N, 3, H, W) each, by name, all of one shape.
            outputs: Where to write, by name; all that the engine has.
            what: What N counts, such as "images".

        Raises:
            InputError: If no profile takes its shape, or TensorRT refuses it.
        """
        image = next(iter(inputs.values()))
        shape = InputShape(image.shape[0], *image.shape[2:])
        context = self.contexts[self.manifest.nearest(shape)]
        for name, tensor in inputs.items():
            context.set_input_shape(name, tuple(tensor.shape))
        for name, tensor in {**inputs, **outputs}.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise InputError(
                f"{self.where}: TensorRT refused a batch of {shape.batch} {what} of "
                f"{shape.height}x{shape.width} ({errors_of(self.log)})",
                REBUILD,
            )
        if self.kernels:
            self.kernels.note((self.manifest.nearest(shape), *shape))

    def _check_version(self, flavour: Flavour) -> None:
        if flavour.version() != self.manifest.version:
            raise InputError(
                f"{self.where}: was built by {flavour.package} {self.manifest.version}, "
                f"installed is {flavour.version()}",
                REBUILD,
            )

    def _check_gpu(self) -> None:
        pick_device("cuda")
        major, minor = torch.cuda.get_device_capability()
        target = f"sm{major}{minor}"
        if target not in self.manifest.targets:
            raise InputError(
                f"{self.where}: was built for {', '.join(self.manifest.targets)}, "
                f"this GPU ({torch.cuda.get_device_name()}) is {target}",
                REBUILD,
            )

    def _context(self, profile: int) -> Any:
        """Make the execution context of a profile."""
        if self.kernels:
            context = self.engine.create_execution_context(self.kernels.config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise InputError(
                f"{self.where}: no execution context for profile {profile} "
                f"({errors_of(self.log)}); free GPU memory, or build smaller profiles"
            )
        context.set_optimization_profile_async(profile, torch.cuda.current_stream().cuda_stream)
        return context


class EngineRuntime(OpenedEngine):
    """An engine that gives scores or features."""

    def __init__(self, path: Path, device: str = "cuda", threads: int = 1):
        """Open an engine.

        Args:
            path: The engine, with its manifest beside it.
            device: "cuda".
            threads: Reported only; the GPU computes.

        Raises:
            InputError: As `OpenedEngine`, or if it gives a distance.
        """
        super().__init__(path, device, threads)
        if isinstance(self.manifest.artifact, DistanceArtifact):
            raise not_a_classifier(path)
        self.artifact = self.manifest.artifact
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.outputs = self.artifact.outputs

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch that is on the device.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            As `DeviceRuntime.on_device`.

        Raises:
            InputError: If no profile takes its shape, or TensorRT refuses it.
        """
        require(self.where, self.outputs, SCORES)
        found = self._executed(pixels)
        return found["posterior"], found["score_map"]

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`; the engine computes all that it has."""
        require(self.where, self.outputs, outputs)
        refuse_other_shape(self.where, self.artifact.interface, images.shape)
        parts = []
        for part in fixed_batches(images, self.artifact.interface.count):
            found = self._executed(torch.from_numpy(part).to(self.device))
            asked = to_host({name: found[name] for name in outputs})
            parts.append(checked(asked, part, self.spec, self.where))
        return joined_batches(parts, len(images))

    def _executed(self, pixels: Tensor) -> dict[str, Tensor]:
        """All outputs for a batch on the device."""
        image = feed(pixels, self.artifact.input)
        found = empty_outputs(self.spec, self.outputs, pixels)
        interface = self.artifact.interface
        given = {interface.graph_name(name): tensor for name, tensor in found.items()}
        self.execute({"image": image}, given, "images")
        return softmax_of_logits(given)


class EngineDistance(OpenedEngine):
    """An engine that gives the distance of two images."""

    def __init__(self, path: Path, device: str = "cuda", threads: int = 1):
        """Open an engine.

        Args:
            path: The engine, with its manifest beside it.
            device: "cuda".
            threads: Reported only; the GPU computes.

        Raises:
            InputError: As `OpenedEngine`, or if it gives no distance.
        """
        super().__init__(path, device, threads)
        if not isinstance(self.manifest.artifact, DistanceArtifact):
            raise not_a_distance(path)
        self.artifact = self.manifest.artifact

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Give distances, as `DistanceRuntime`."""
        pixels = [torch.from_numpy(images).to(self.device) for images in (first, second)]
        images = [feed(batch, self.artifact.input).contiguous() for batch in pixels]
        found = torch.empty(len(first), device=self.device)
        self.execute(dict(zip(INPUTS, images, strict=True)), {OUTPUT: found}, "pairs")
        return checked_distances(found.cpu().numpy(), len(first), self.where)
