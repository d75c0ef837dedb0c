"""A TensorRT engine of either flavour, with tensors on the device."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.exported.trt_manifest import REBUILD, InputShape, check_engine
from vgg_deploy.exported.trt_packages import FLAVOURS, collecting_logger, errors_of
from vgg_deploy.machine import pick_device
from vgg_deploy.runtimes.contract import Scores, checked, empty_scores, feed, to_host


class EngineRuntime:
    """One execution context a profile; a call goes to the profile whose optimum is nearest."""

    def __init__(self, path: Path, device: str = "cuda", threads: int = 1):
        self.manifest = check_engine(path)
        self.artifact = self.manifest.artifact
        self.spec, self.precision, self.threads, self.device = (
            self.artifact.spec,
            self.artifact.precision,
            threads,
            device,
        )
        if device != "cuda":
            raise InputError(
                f"{path}: TensorRT engines run on GPUs only",
                f"run it on cuda, or {self.manifest.onnx} on the CPU",
                "cuda",
            )
        self.settings, self.where = {}, str(path)
        flavour = FLAVOURS[self.manifest.flavour]
        self.name = flavour.runtime
        trt = flavour.load()
        if flavour.version() != self.manifest.version:
            raise InputError(
                f"{path}: was built by {flavour.package} {self.manifest.version}, installed is {flavour.version()}; {REBUILD}"
            )
        pick_device("cuda")
        here = "sm{}{}".format(*torch.cuda.get_device_capability())
        if here not in self.manifest.targets:
            raise InputError(
                f"{path}: was built for {', '.join(self.manifest.targets)}, this GPU ({torch.cuda.get_device_name()}) is {here}; {REBUILD}"
            )
        self.log = collecting_logger(trt)
        loader = trt.Runtime(self.log)
        self.engine = loader.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise InputError(
                f"{path}: TensorRT does not load it ({errors_of(self.log)}); {REBUILD}"
            )
        stream = torch.cuda.current_stream().cuda_stream
        self.contexts = []
        for i in range(self.engine.num_optimization_profiles):
            context = self.engine.create_execution_context()
            if context is None:
                raise InputError(
                    f"{path}: no execution context for profile {i} ({errors_of(self.log)}); free GPU memory, or build smaller profiles"
                )
            context.set_optimization_profile_async(i, stream)
            self.contexts.append(context)

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        shape = InputShape(pixels.shape[0], *pixels.shape[2:])
        context = self.contexts[self.manifest.nearest(shape)]
        image = feed(pixels, self.artifact.input)
        posterior, score_map = empty_scores(self.spec, pixels)
        context.set_input_shape("image", tuple(image.shape))
        for name, tensor in (("image", image), ("posterior", posterior), ("score_map", score_map)):
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise InputError(
                f"{self.where}: TensorRT refused a batch of {shape.batch} pictures of {shape.height}x{shape.width} "
                f"({errors_of(self.log)}); {REBUILD}"
            )
        return posterior, score_map

    def __call__(self, images: np.ndarray) -> Scores:
        outputs = to_host(self.on_device(torch.from_numpy(images).to(self.device)))
        return checked(outputs, images, self.spec, self.where)
