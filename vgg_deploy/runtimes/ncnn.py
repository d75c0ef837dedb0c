"""Runs a net in ncnn on the CPU, in float32 or bfloat16.

Winograd's convolution takes a quarter of the multiplications of a 3x3 convolution.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import AGAIN, NcnnFiles
from vgg_deploy.net.outputs import least_side
from vgg_deploy.runtimes.contract import Outputs, Scores, checked, feed, give_scores, require

# Where the CPU has half precision ncnn would use it, and a GPU where it finds one
OFF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_inference",
    "use_vulkan_compute",
)
IN_BFLOAT16 = "ncnn-bf16"
BFLOAT16 = ("use_bf16_packed", "use_bf16_storage")


class NcnnRuntime:
    """One image at a time, of any size.

    ncnn runs a batch in this way too, but keeps its activations longer.
    """

    def __init__(
        self, files: NcnnFiles, device: str = "cpu", threads: int = 1, runtime: str = "ncnn"
    ):
        """Open the files of a net.

        Args:
            files: As `find_ncnn` finds them.
            device: "cpu".
            threads: To run with.
            runtime: "ncnn" for float32, "ncnn-bf16" to compute in bfloat16.

        Raises:
            InputError: For another device, without the package, or for files that ncnn refuses.
        """
        if device != "cpu":
            raise InputError(
                f"{files.param}: ncnn runs it on CPUs only",
                f"run it on the CPU, or the ONNX file on {device}",
                "cpu",
            )
        self.ncnn = load_ncnn()
        self.settings: dict[str, str] = {}
        self.name, self.device, self.threads = runtime, device, threads
        self.artifact, self.where = files.artifact, str(files.param)
        self.spec, self.outputs = files.artifact.spec, files.artifact.outputs
        in_bfloat16 = runtime == IN_BFLOAT16
        self.precision = "bf16" if in_bfloat16 else files.artifact.precision
        self.net: Any = self.ncnn.Net()
        for name in OFF:
            setattr(self.net.opt, name, in_bfloat16 and name in BFLOAT16)
        self.net.opt.num_threads = threads
        if self.net.load_param(str(files.param)) or self.net.load_model(str(files.weights)):
            raise InputError(f"{files.param}: ncnn {self.ncnn.__version__} does not load it", AGAIN)

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`."""
        require(self.where, self.outputs, outputs)
        height, width = images.shape[2:]
        least = least_side(self.spec, outputs)
        if min(height, width) < least:
            raise InputError(
                f"images of {height}x{width} have a side below {least}, the least that the net "
                "takes; enlarge them"
            )
        inputs = feed(torch.from_numpy(images), self.artifact.input).float().contiguous().numpy()
        found = [self._run_one(image, outputs) for image in inputs]
        stacked = {name: np.stack([one[name] for one in found]) for name in outputs}
        return checked(stacked, images, self.spec, self.where)

    def _run_one(self, image: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """The outputs for one (3, H, W) float32 image."""
        extractor = self.net.create_extractor()
        # A copy, in memory of ncnn's own: its first layer works in place, and a Mat made from a
        # NumPy array does not keep the array alive
        extractor.input("image", self.ncnn.Mat(image).clone())
        return {name: self._extract(extractor, name, image) for name in outputs}

    def _extract(self, extractor: Any, name: str, image: np.ndarray) -> np.ndarray:
        status, values = extractor.extract(name)
        if status:
            raise InputError(
                f"{self.where}: ncnn gives no {name} of an image of "
                f"{image.shape[1]}x{image.shape[2]} (status {status}); it may need more memory"
            )
        return np.array(values)


def load_ncnn() -> ModuleType:
    """Import ncnn.

    Raises:
        InputError: If it is not installed; says how to install it.
    """
    try:
        import ncnn
    except ImportError as error:
        raise InputError(
            f"ncnn cannot be imported ({error}); pip install vgg-deploy[ncnn], or ncnn alone"
        ) from None
    module: ModuleType = ncnn
    return module
