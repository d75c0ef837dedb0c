"""Which shapes an engine must take, from the test scales and the aspect ratios of photos.

A rescaled photo has one side of Q pixels and one of up to Q times the aspect ratio, either of them the longer. So the profile
of a scale takes heights and widths from Q to Q times the largest aspect ratio, and is tuned for the usual one. The profile of
the smallest scale begins at the crop, so that crops run too. Batches go from one to the largest, which is the one tuned for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.exported.trt_manifest import InputShape, Profile
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.progress import progress


@dataclass(frozen=True)
class Aspects:
    """Of the photos that an engine is for, as (height, width)."""

    usual: tuple[int, int]
    longest: tuple[int, int]  # of the largest ratio of the sides


COMMON = Aspects((3, 4), (1, 2))  # without data: cameras' 4:3 landscape, and room to 2:1 either way


def aspects_of(data: Path | str) -> Aspects:
    """The commonest size of a validation set, and the longest one; reads the headers of all images."""
    # here, so that building an engine needs no PyTorch
    from vgg_deploy.data.layouts import open_dataset

    dataset = open_dataset(data, "val")
    sizes: Counter[tuple[int, int]] = Counter()
    with progress(f"sizes of {len(dataset)} images", len(dataset)) as bar:
        for i in range(len(dataset)):
            sizes[dataset.size(i)] += 1
            bar.advance()
    return Aspects(sizes.most_common(1)[0][0], max(sizes, key=lambda size: max(size) / min(size)))


def profiles_per_scale(
    sides: Iterable[int], batch: int, crop: int, aspects: Aspects
) -> list[Profile]:
    """One a scale, ascending. Args: sides, Q in pixels; batch, the largest."""
    sides = sorted(sides)
    return [
        _profile(crop if side == sides[0] else side, side, side, batch, aspects) for side in sides
    ]


def covering_profile(
    sides: Iterable[int], batch: int, crop: int, aspects: Aspects
) -> list[Profile]:
    """One for all scales, tuned for the middle one."""
    sides = sorted(sides)
    return [_profile(crop, sides[len(sides) // 2], sides[-1], batch, aspects)]


PROFILE_RULES = {"per-scale": profiles_per_scale, "covering": covering_profile}


def _profile(low: int, tuned: int, high: int, batch: int, aspects: Aspects) -> Profile:
    longest = max(rescaled_size(*aspects.longest, high))
    return Profile(
        InputShape(1, low, low),
        InputShape(batch, *rescaled_size(*aspects.usual, tuned)),
        InputShape(batch, longest, longest),
    )
