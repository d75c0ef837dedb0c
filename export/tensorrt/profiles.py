"""Chooses the shapes that an engine must take, from test scales and aspect ratios of photos.

A rescaled photo has one side of Q pixels, and another of up to Q times the aspect ratio. Either of
them may be the height. So the profile of a scale takes heights and widths from Q to Q times the
largest aspect ratio, and is tuned for the usual one. The profile of the smallest scale begins at
the crop, so that crops run too. Batches range from one to the largest, which is the tuned one.
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
    """Sizes (height, width) of the photos that an engine is for; only their ratio counts.

    Attributes:
        usual: The commonest size.
        longest: The size with the largest ratio of its sides.
    """

    usual: tuple[int, int]
    longest: tuple[int, int]


COMMON = Aspects((3, 4), (1, 2))  # without data: cameras' 4:3 landscape, and up to 2:1


def aspects_of(data: Path | str) -> Aspects:
    """The commonest and the longest size of a validation set.

    Reads the headers of all images.

    Args:
        data: As `open_dataset`.
    """
    # here, so that building an engine needs no PyTorch
    from vgg_deploy.data.layouts import open_dataset

    dataset = open_dataset(data, "val")
    sizes: Counter[tuple[int, int]] = Counter()
    with progress(f"sizes of {len(dataset)} images", len(dataset)) as bar:
        for i in range(len(dataset)):
            sizes[dataset.size(i)] += 1
            bar.advance()
    longest = max(sizes, key=lambda size: max(size) / min(size))
    return Aspects(sizes.most_common(1)[0][0], longest)


def profiles_per_scale(
    sides: Iterable[int], batch: int, crop: int, aspects: Aspects
) -> list[Profile]:
    """One profile per scale, ascending.

    Args:
        sides: Test scales Q, pixels.
        batch: The largest.
        crop: Side of the training crop, pixels.
        aspects: Of the photos.
    """
    ascending = sorted(sides)
    return [
        _profile(crop if side == ascending[0] else side, side, side, batch, aspects)
        for side in ascending
    ]


def covering_profile(
    sides: Iterable[int], batch: int, crop: int, aspects: Aspects
) -> list[Profile]:
    """One profile for all scales, tuned for the middle one.

    Args:
        sides: Test scales Q, pixels.
        batch: The largest.
        crop: Side of the training crop, pixels.
        aspects: Of the photos.
    """
    ascending = sorted(sides)
    middle = ascending[len(ascending) // 2]
    return [_profile(crop, middle, ascending[-1], batch, aspects)]


PROFILE_RULES = {"per-scale": profiles_per_scale, "covering": covering_profile}


def _profile(least: int, tuned: int, largest: int, batch: int, aspects: Aspects) -> Profile:
    """A profile from three test scales, pixels."""
    longest_side = max(rescaled_size(*aspects.longest, largest))
    return Profile(
        InputShape(1, least, least),
        InputShape(batch, *rescaled_size(*aspects.usual, tuned)),
        InputShape(batch, longest_side, longest_side),
    )
