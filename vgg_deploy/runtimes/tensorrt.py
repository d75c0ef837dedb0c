"""Runs a TensorRT engine of either flavour on tensors on the GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
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


class EngineRuntime:
    """One execution context per profile; a call uses the profile whose optimum is nearest."""

    def __init__(self, path: Path, device: str = "cuda", threads: int = 1):
        """Open an engine.

        Args:
            path: The engine, with its manifest beside it.
            device: "cuda".
            threads: Reported only; the GPU computes.

        Raises:
            InputError: For another device or GPU, another version of TensorRT, or a file that is
                damaged or outdated.
        """
        self.manifest = check_engine(path)
        self.artifact = self.manifest.artifact
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.outputs = self.artifact.outputs
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
        self.contexts = [self._context(i) for i in range(self.engine.num_optimization_profiles)]

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
        found = self._executed(torch.from_numpy(images).to(self.device))
        asked = to_host({name: found[name] for name in outputs})
        return checked(asked, images, self.spec, self.where)

    def _executed(self, pixels: Tensor) -> dict[str, Tensor]:
        """All outputs for a batch on the device."""
        shape = InputShape(pixels.shape[0], *pixels.shape[2:])
        context = self.contexts[self.manifest.nearest(shape)]
        image = feed(pixels, self.artifact.input)
        found = empty_outputs(self.spec, self.outputs, pixels)
        context.set_input_shape("image", tuple(image.shape))
        for name, tensor in {"image": image, **found}.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise InputError(
                f"{self.where}: TensorRT refused a batch of {shape.batch} images of "
                f"{shape.height}x{shape.width} ({errors_of(self.log)})",
                REBUILD,
            )
        return found

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
        context = self.engine.create_execution_context()
        if context is None:
            raise InputError(
                f"{self.where}: no execution context for profile {profile} "
                f"({errors_of(self.log)}); free GPU memory, or build smaller profiles"
            )
        context.set_optimization_profile_async(profile, torch.cuda.current_stream().cuda_stream)
        return context
