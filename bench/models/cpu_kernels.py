"""Checks that this CPU computes the quantized files of a run as they are written."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.models.model import Model
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import scaled
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.predict.whole_images import filter_for
from vgg_deploy.runtimes.contract import Runtime
from vgg_deploy.runtimes.graph_interface import interface_of

# Precisions whose convolutions ONNX Runtime computes in integers, on the CPU
FUSED = ("int8-cpu", "int4-cpu")
BLOCKS = ("int4", "int4-cpu")  # whose fully connected layers have 4-bit weights
TRIES = 20  # images, in case the first ones are unreadable


class Kernels(NamedTuple):
    """What was found of models with integer kernels, by their index."""

    wrong: dict[int, str]  # what is wrong
    right: set[int]


def check_kernels(models: Sequence[Model], dataset: Dataset, known: Container[int] = ()) -> Kernels:
    """Find models whose integer kernels are wrong on this CPU.

    Convolutions in integers are tried with random integers. Products of 4-bit weights are computed
    for one image of the data.

    Args:
        models: All models of the run.
        dataset: The run's images.
        known: Indices of models that earlier runs found right on these images and such a CPU.
    """
    wrong: dict[int, str] = {}
    right: set[int] = set()
    for index, model in enumerate(models):
        runtime = model.runtime
        is_checked = runtime.precision in (*FUSED, *BLOCKS) and index not in known
        if not is_checked or runtime.device != "cpu" or runtime.artifact is None:
            continue
        try:
            if _checked(model.path, runtime, runtime.artifact.input, dataset):
                right.add(index)
        except CheckFailed as error:
            wrong[index] = error.message
    return Kernels(wrong, right)


def _checked(path: Path, runtime: Runtime, form: str, dataset: Dataset) -> bool:
    """Check the kernels of a model; False if that takes an image and none is readable.

    Raises:
        CheckFailed: If they are wrong.
    """
    from vgg_deploy.runtimes.block_products import check_products  # here: PyTorch, onnx
    from vgg_deploy.runtimes.integer_kernels import check_arithmetic

    if runtime.precision in FUSED:
        check_arithmetic(path, runtime.threads, str(path))
    if runtime.precision in BLOCKS:
        image = _first_image(dataset, runtime)
        if image is None:
            return False  # the run fails for that reason
        check_products(path, image, form, runtime.threads, str(path))
    return True


def _first_image(dataset: Dataset, runtime: Runtime) -> np.ndarray | None:
    """The first readable image as the file takes it.

    Returns:
        (N, 3, h, w) uint8 RGB, at the net's test scale or in the file's own shape.
    """
    side, shape = runtime.spec.test_side, interface_of(runtime).shape
    for index in range(min(TRIES, len(dataset))):
        try:
            image = scaled(dataset.image(index), side, filter_for(runtime))
        except InputError:
            continue
        if shape is not None:
            image = image.resize((shape[2], shape[1]))
        pixels = np.asarray(image).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(pixels.repeat(shape[0] if shape else 1, axis=0))
    return None
