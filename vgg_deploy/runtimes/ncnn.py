"""ncnn on the CPU: float32 with Winograd's convolution, which takes a quarter of the multiplications of a 3x3."""

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import AGAIN, NcnnFiles
from vgg_deploy.runtimes.contract import Scores, checked, feed

# Wherever the CPU has half precision ncnn would use it, and a GPU where it finds one
OFF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_storage",
    "use_int8_inference",
    "use_vulkan_compute",
)


class NcnnRuntime:
    """One picture at a time, of any size: ncnn runs a batch that way too, and keeps its activations longer."""

    def __init__(self, files: NcnnFiles, device: str = "cpu", threads: int = 1):
        """Raises: InputError for another device than the CPU, or without the package."""
        if device != "cpu":
            raise InputError(
                f"{files.param}: ncnn runs it on CPUs only",
                f"run it on the CPU, or the ONNX file on {device}",
                "cpu",
            )
        self.ncnn = load_ncnn()
        self.settings, self.where = {}, str(files.param)
        self.artifact, self.device, self.threads, self.name = (
            files.artifact,
            device,
            threads,
            "ncnn",
        )
        self.spec, self.precision = files.artifact.spec, files.artifact.precision
        self.net = self.ncnn.Net()
        for name in OFF:
            setattr(self.net.opt, name, False)
        self.net.opt.num_threads = threads
        if self.net.load_param(str(files.param)) or self.net.load_model(str(files.weights)):
            raise InputError(
                f"{files.param}: ncnn {self.ncnn.__version__} does not load it; {AGAIN}"
            )

    def __call__(self, images: np.ndarray) -> Scores:
        if min(images.shape[2:]) < self.spec.crop:
            raise InputError(
                f"pictures of {images.shape[2]}x{images.shape[3]} are below the crop {self.spec.crop} of the net; enlarge them"
            )
        fed = feed(torch.from_numpy(images), self.artifact.input).float().contiguous().numpy()
        posteriors, maps = zip(*(self._one(picture) for picture in fed), strict=True)
        return checked((np.stack(posteriors), np.stack(maps)), images, self.spec, self.where)

    def _one(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        extractor = self.net.create_extractor()
        # a copy, in memory of ncnn's own: its first layer works in place, and a Mat of NumPy's does not keep the array alive
        extractor.input("image", self.ncnn.Mat(picture).clone())
        found = {name: extractor.extract(name) for name in ("score_map", "posterior")}
        for name, (status, _) in found.items():
            if status:
                raise InputError(
                    f"{self.where}: ncnn gives no {name} of a picture of {picture.shape[1]}x{picture.shape[2]} "
                    f"(status {status}); it may need more memory"
                )
        return np.array(found["posterior"][1]), np.array(found["score_map"][1])


def load_ncnn():
    """The package. Raises: InputError with the way to get it."""
    try:
        import ncnn
    except ImportError as error:
        raise InputError(
            f"ncnn is not here ({error}); pip install vgg-deploy[ncnn], or ncnn alone"
        ) from None
    return ncnn
