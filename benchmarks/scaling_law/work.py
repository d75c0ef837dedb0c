"""Counts the multiply-accumulates of a call, and records what calls took."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vgg_deploy.net.archs import ARCHS, macs, map_side
from vgg_deploy.net.spec import NetSpec

SIZE, BATCH, IMAGES = "size of one image", "batch at 224 x 224", "images scored"
GROUPS = ("stage 1", "stage 2", "stage 3", "stage 4", "stage 5", "fc6", "fc7, fc8")
OTHER = "pools and the rest"
NAMES = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch", "bench": "vgg-bench, ONNX Runtime"}


class InputShape(NamedTuple):
    """Input shape of one call; sides in pixels."""

    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class Point:
    """One measurement; field names are the columns of scaling.csv."""

    series: str
    runtime: str
    batch: int
    height_px: int  # 0 where the images differ in size
    width_px: int
    gmacs: float
    runs: int
    median_s: float
    min_s: float
    max_s: float
    peak_mib: float  # resident memory of the process with the loaded net


def work(spec: NetSpec, shape: InputShape) -> int:
    """Exact number of multiply-accumulates of one call."""
    return shape.batch * macs(
        ARCHS[spec.arch], shape.height, shape.width, len(spec.classes), spec.width, spec.crop
    )


def group_work(spec: NetSpec, shape: InputShape) -> dict[str, int]:
    """Multiply-accumulates of one call for each of GROUPS."""
    arch = ARCHS[spec.arch]
    groups = {}
    h, w = shape.height, shape.width
    for name, stage in zip(GROUPS[:5], arch.stages(spec.width), strict=True):
        groups[name] = shape.batch * sum(c.kernel**2 * c.c_in * c.c_out * h * w for c in stage)
        h, w = h // 2, w // 2
    positions = map_side(shape.height, spec.crop) * map_side(shape.width, spec.crop)
    head = arch.head(len(spec.classes), spec.width, spec.crop)
    fc6, fc7, fc8 = (shape.batch * c.kernel**2 * c.c_in * c.c_out * positions for c in head)
    return {**groups, "fc6": fc6, "fc7, fc8": fc7 + fc8}


def images_of(shape: InputShape) -> np.ndarray:
    """Random images, (N, 3, H, W) uint8."""
    return np.random.default_rng(0).integers(
        0, 256, (shape.batch, 3, shape.height, shape.width), np.uint8
    )
