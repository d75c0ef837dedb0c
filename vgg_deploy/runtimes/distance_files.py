"""Opens distance files, and lets them stand where any runtime does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import OUTPUT, not_a_distance
from vgg_deploy.exported.trt_manifest import read_engine_manifest
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes.contract import Outputs, Scores, require
from vgg_deploy.runtimes.distances import DistanceRuntime, OnnxDistance, OpenVinoDistance
from vgg_deploy.runtimes.tensorrt import EngineDistance

ONNX_RUNTIMES: tuple[str, ...] = ("onnxruntime", "onnxruntime-tensorrt", "openvino")


def open_distance(
    path: Path, device: str = "cpu", threads: int = 1, runtime: str | None = None
) -> DistanceRuntime:
    """Open a distance file, ready to run.

    Args:
        path: An ONNX file of vgg-export, or an engine.
        device: "cpu" or "cuda".
        threads: On the CPU.
        runtime: One of ONNX_RUNTIMES for an ONNX file, that of its flavour for an engine; None for
            the usual one of the file.

    Raises:
        InputError: If the file gives no distance, or its runtime or the device is missing.
    """
    if path.suffix not in (".onnx", ".engine"):
        raise not_a_distance(path)
    choices = ONNX_RUNTIMES
    if path.suffix == ".engine":
        choices = (FLAVOURS[read_engine_manifest(path).flavour].runtime,)
    if runtime is not None and runtime not in choices:
        raise InputError(
            f"{path}: the runtime {runtime} does not open it; choose from {', '.join(choices)}"
        )
    if path.suffix == ".engine":
        return EngineDistance(path, device, threads)
    if runtime == "openvino":
        return OpenVinoDistance(path, device, threads)
    return OnnxDistance(path, device, threads, runtime or choices[0])


class DistanceOnly:
    """A distance file as a `Runtime`, which gives neither scores nor features.

    Attributes:
        distances: Gives what it has.
    """

    def __init__(self, distances: DistanceRuntime):
        self.distances = distances
        self.spec: NetSpec = distances.artifact.spec
        self.outputs: tuple[str, ...] = (OUTPUT,)
        self.name, self.precision = distances.name, distances.artifact.precision
        self.device, self.threads = distances.device, distances.threads
        self.where = distances.where
        self.artifact = None

    @property
    def settings(self) -> Mapping[str, str]:
        """As `Runtime`."""
        return self.distances.settings

    def __call__(self, images: np.ndarray) -> Scores:
        """Refuse, as the file gives no scores."""
        require(self.where, self.outputs, SCORES)
        raise AssertionError("a distance file has no scores")

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Refuse, as a distance is between two images."""
        require(self.where, self.outputs, outputs)
        raise InputError(f"{self.where}: gives the distance of two images, and one was given")
