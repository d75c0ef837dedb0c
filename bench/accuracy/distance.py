"""Measures how far posteriors are from those of the reference.

It shows differences that accuracy cannot show on few images.

Two float32 files of the same weights differ by rounding alone. Measured with correct files against
PyTorch on a CPU: 2e-7 to 7e-7 for thin nets; for a full-width D with the released convolutions and
scores of standard deviation 15, on photos at Q = 256, 5e-6 in ONNX Runtime and 1.8e-5 in ncnn,
whose Winograd transform rounds more. A mean that is one grey level off gives 4e-3, a tenth of a
level 6e-4.
"""

from dataclasses import dataclass

import numpy as np

from bench.accuracy.accuracy_rows import ClassIndex, averaged, columns_in_order
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Row
from bench.models.model import Model
from vgg_deploy.net.spec import NetSpec, numbered

# Largest difference of posteriors that rounding in float32 explains: more than five times the
# largest that was measured with a correct file, and a fortieth of what one grey level in the mean
# does.
ROUNDING = 1e-4
# Posteriors up to 1 that are stored as float16 are rounded to multiples of 2**-11, and nearly equal
# ones perhaps to different multiples.
FLOAT16_STEP = 2.0**-11
# Equality on so many images shows, with 95 % confidence, that at most one image in four could
# differ; a fault of arithmetic, preprocessing or weights changes nearly all of them.
LEAST_IMAGES = 10
# Runtimes that multiply float32 as float32. ONNX Runtime's TensorRT provider may use TF32.
TRUE_FLOAT32 = (
    *("torch", "torch-compile", "onnxruntime", "openvino", "ncnn"),
    *("tensorrt", "tensorrt-rtx"),
)


@dataclass(frozen=True, eq=False)
class Distance:
    """Distance of one row's posteriors from another's, per image."""

    largest: np.ndarray  # (images,) largest absolute difference of any class
    total_variation: np.ndarray  # (images,) half the sum of absolute differences, 0 to 1


def distance(
    reference: Row, other: Row, models: list[Model], measured: Measured, classes: ClassIndex
) -> Distance | None:
    """Compare two rows class by class. Classes are matched by id, whatever their order in the nets.

    Args:
        reference: A row of the reference.
        other: A row of the same protocol.
        models: The models of the run.
        measured: Posteriors of both rows' cells.
        classes: The numbering of classes.

    Returns:
        None if the two rows do not have the same classes.
    """
    order, present = (classes.of_model[row.members[0].model] for row in (reference, other))
    columns = columns_in_order(order, present)
    if columns is None:
        return None
    count = int(measured.kept.sum())
    largest, variation = np.zeros(count), np.zeros(count)
    rows = (averaged(row, models, measured, classes) for row in (reference, other))
    for (part, first), (_, second) in zip(*rows, strict=True):
        difference = np.abs(first - second[:, columns])
        largest[part] = difference.max(axis=1)
        variation[part] = difference.sum(axis=1) / 2
    return Distance(largest, variation)


def rounding_limit(models: list[Model], reference: Row, other: Row, cell_type: str) -> float | None:
    """Largest difference between the posteriors of two rows that must be equal but for rounding.

    They must be equal where both rows are of one net in float32, with the same weights, layers,
    classes and preprocessing, tested at the same sizes.

    Args:
        models: The models of the run.
        reference: A row of the reference.
        other: A row of the same protocol.
        cell_type: Of the stored posteriors, "float32" or "float16".

    Returns:
        None for rows that may differ.
    """
    if len(reference.members) > 1 or len(other.members) > 1:
        return None
    (first,), (second,) = reference.members, other.members
    if first.sides != second.sides or not _same_net(models[first.model], models[second.model]):
        return None
    return ROUNDING + (FLOAT16_STEP if cell_type == "float16" else 0.0)


def _same_net(first: Model, second: Model) -> bool:
    if first.origin != second.origin:
        return False
    for runtime in (first.runtime, second.runtime):
        if runtime.precision != "fp32" or runtime.name not in TRUE_FLOAT32:
            return False
    one, two = first.runtime.spec, second.runtime.spec
    same = all(
        getattr(one, name) == getattr(two, name)
        for name in ("arch", "width", "crop", "lrn", "preprocessing")
    )
    return same and _same_classes(one, two)


def _same_classes(one: NetSpec, two: NetSpec) -> bool:
    """Compare classes by id; those of a net that only numbers them are taken in their order."""
    if len(one.classes) != len(two.classes):
        return False
    unknown = any(spec.classes == numbered(len(spec.classes)) for spec in (one, two))
    return unknown or set(one.classes) == set(two.classes)
