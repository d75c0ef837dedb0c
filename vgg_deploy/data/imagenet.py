"""Recognises ImageNet (ILSVRC-2012) and the test sets that use its classes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.net.imagenet_classes import imagenet_wnids
from vgg_deploy.regular_files import real_path

IMAGES = {"train": 1_281_167, "val": 50_000}  # of ILSVRC-2012, by split
CLASSES = 1000
# Parts of the names of ImageNet-V2's folders, without separators
V2_NAMES = ("imagenetv2", "matchedfrequency", "topimages", "threshold0.7")


@dataclass(frozen=True)
class Benchmark:
    """How a test set defines its errors.

    Attributes:
        name: Of the test set.
        among: Ids of the classes that the best one is chosen among; empty for all of the net's.
        rule: What differs from a plain top-1 error, for people; empty if nothing does.
        numbering: Ids of all classes, in the order of the scores of a net that names no classes.
    """

    name: str
    among: tuple[str, ...]
    rule: str
    numbering: tuple[str, ...]


def benchmark_of(classes: Collection[str]) -> Benchmark | None:
    """Recognise ImageNet-A or ImageNet-R by its classes.

    Args:
        classes: Names of the class folders.

    Returns:
        None for any other set of classes.
    """
    for mark in ("A", "R"):
        subset = imagenet_wnids(mark)
        if set(classes) == set(subset):
            rule = f"best of its {len(subset)} classes"
            return Benchmark(f"ImageNet-{mark}", subset, rule, imagenet_wnids())
    return None


def is_v2(folder: Path, classes: Collection[str]) -> bool:
    """Whether a folder is a test set of ImageNet-V2, whose class folders are named 0 to 999.

    Args:
        folder: Its path; its name or that of the folder above tells it from other data.
        classes: Names of its class folders.
    """
    if set(classes) != {str(number) for number in range(CLASSES)}:
        return False
    resolved = real_path(folder)
    names = [name.lower().replace("-", "").replace("_", "") for name in resolved.parts[-2:]]
    return any(part in name for part in V2_NAMES for name in names)


def count_warnings(split: str, images: int, classes: int) -> list[str]:
    """What differs from the whole ILSVRC-2012, one sentence each.

    Args:
        split: "train" or "val".
        images: How many there are.
        classes: How many there are.
    """
    warnings = []
    if images != IMAGES[split]:
        warnings.append(f"{split} has {images:,} images; the whole ImageNet has {IMAGES[split]:,}")
    if classes != CLASSES:
        warnings.append(f"{split} has {classes:,} classes; the whole ImageNet has {CLASSES:,}")
    return warnings
