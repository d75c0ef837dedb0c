"""Computes descriptors of images from the layers of a net (appendix B).

A layer's map is averaged over its positions, then over the image and its mirror image, then over
the scales, in float64.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.features.normalise import l2_normalised
from vgg_deploy.features.settings import JOINED
from vgg_deploy.name_frames import named_frame
from vgg_deploy.net.outputs import check_layer_names, least_side, output_shape
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.predict.stream import Pixels, by_size
from vgg_deploy.predict.views import mirror
from vgg_deploy.runtimes.contract import Runtime, require

if TYPE_CHECKING:
    import pandas as pd

USUAL_LAYER = "relu7"  # the paper's: activations of the last layer but one
USUAL_OF_TRUNK = "pool5"  # of convolutions alone
MOST_MAP_BYTES = 256 * 2**20  # of the maps that one call of a net gives

Row = dict[str, np.ndarray]  # of one image, by layer: (d,) float32


@dataclass(frozen=True)
class DescriptorPlan:
    """What a descriptor of an image is.

    Attributes:
        layers: Names of layers, in running order.
        sides: Q, pixels.
        flips: Whether the mirror image is averaged too.
        over_scales: "average", or "stack" for the scales side by side.
        l2: Whether a descriptor is divided by its Euclidean norm at the end.
        batch: Most images per call of the net.
    """

    layers: tuple[str, ...]
    sides: tuple[int, ...]
    flips: bool
    over_scales: str
    l2: bool
    batch: int

    @classmethod
    def of(
        cls,
        runtime: Runtime,
        layers: str | Sequence[str] | None = None,
        sides: int | Sequence[int] | None = None,
        flips: bool = True,
        over_scales: str = "average",
        l2: bool = False,
        batch: int = 16,
    ) -> "DescriptorPlan":
        """Check the settings, and fill in layers and scales.

        Args:
            runtime: The net.
            layers: Names of layers; None for all that an exported file of features gives, else
                relu7, or pool5 of convolutions alone.
            sides: Q in pixels, one or several; None for the paper's single scale (section 4.1).
            flips: As the attribute.
            over_scales: As the attribute.
            l2: As the attribute.
            batch: As the attribute.

        Raises:
            InputError: For a layer that the net does not have or the file does not give, for a Q
                that is too small for a layer, for another way to join scales, or an empty batch.
        """
        spec, where = runtime.spec, runtime.where
        if layers is None:
            given = runtime.artifact.layers if runtime.artifact else ()
            layers = given or (USUAL_LAYER if spec.has_head else USUAL_OF_TRUNK)
        named = (layers,) if isinstance(layers, str) else tuple(layers)
        chosen = check_layer_names(where, named, spec)
        require(where, runtime.outputs, chosen)
        if over_scales not in JOINED:
            raise InputError(
                f"over_scales {over_scales!r} is unknown; choose from {', '.join(JOINED)}"
            )
        if batch < 1:
            raise InputError(f"a batch of {batch} images is empty; use at least 1")
        return cls(chosen, _sides(sides, spec, chosen), flips, over_scales, l2, batch)

    def widths(self, spec: NetSpec) -> dict[str, int]:
        """Length d of the descriptor of each layer.

        Args:
            spec: The net.
        """
        parts = len(self.sides) if self.over_scales == "stack" else 1
        image = (1, 3, self.sides[0], self.sides[0])
        return {layer: parts * output_shape(spec, layer, image)[1] for layer in self.layers}


def _sides(
    sides: int | Sequence[int] | None, spec: NetSpec, layers: Sequence[str]
) -> tuple[int, ...]:
    """Q in pixels, ascending."""
    if sides is None:
        sides = spec.test_side
    chosen = (sides,) if isinstance(sides, int) else tuple(sorted(set(sides)))
    if not chosen:
        raise InputError("no Q is named; name at least one, in pixels")
    least = least_side(spec, layers)
    if chosen[0] < least:
        last = max(layers, key=lambda layer: least_side(spec, [layer]))
        raise InputError(
            f"Q {chosen[0]} gives no value of {last}, which needs images of {least} pixels; the "
            f"smallest Q is {least}"
        )
    return chosen


def descriptors(
    runtime: Runtime, images: Iterable[Pixels | InputError], plan: DescriptorPlan
) -> Iterator[Row | InputError]:
    """Describe images as they come.

    Args:
        runtime: The net.
        images: Each at every Q of `plan`, or what is wrong with it.
        plan: What a descriptor is.

    Yields:
        The descriptors of each image, or what is wrong with it, in the order of the images.

    Raises:
        CheckFailed: For a descriptor that is not finite.
    """

    def describe(stacked: Mapping[int, np.ndarray]) -> list[Row]:
        found = described(runtime, stacked, plan)
        count = len(next(iter(stacked.values())))
        return [{layer: rows[i] for layer, rows in found.items()} for i in range(count)]

    return by_size(images, plan.batch, describe)


def described(runtime: Runtime, images: Mapping[int, np.ndarray], plan: DescriptorPlan) -> Row:
    """Describe images of one size.

    Args:
        runtime: The net.
        images: By Q, (N, 3, h, w) uint8 RGB with min(h, w) == Q.
        plan: What a descriptor is.

    Returns:
        By layer, (N, d) float32.

    Raises:
        CheckFailed: For a descriptor that is not finite.
    """
    scales = [_one_scale(runtime, images[side], plan) for side in plan.sides]
    found: Row = {}
    for layer in plan.layers:
        of_scales = [means[layer] for means in scales]
        if plan.over_scales == "stack":
            joined = np.concatenate(of_scales, axis=1)
        else:
            joined = np.mean(of_scales, axis=0)
        if not np.isfinite(joined).all():
            raise CheckFailed(
                f"{runtime.where}: gives values of {layer} that are not finite; use a precision "
                "with a larger range, such as fp32, or check its weights"
            )
        found[layer] = l2_normalised(joined) if plan.l2 else joined.astype(np.float32)
    return found


def _one_scale(runtime: Runtime, images: np.ndarray, plan: DescriptorPlan) -> Row:
    """Averages over positions and flips: by layer, (N, C) float64."""
    shapes = [output_shape(runtime.spec, layer, (1, *images.shape[1:])) for layer in plan.layers]
    map_bytes = 4 * sum(map(prod, shapes))
    step = min(plan.batch, max(1, MOST_MAP_BYTES // map_bytes))
    parts: list[Row] = []
    for start in range(0, len(images), step):
        part = np.ascontiguousarray(images[start : start + step])
        means = _position_means(runtime, part, plan.layers)
        if plan.flips:
            mirrored = _position_means(runtime, mirror(part), plan.layers)
            means = {layer: (means[layer] + mirrored[layer]) / 2 for layer in plan.layers}
        parts.append(means)
    return {layer: np.concatenate([part[layer] for part in parts]) for layer in plan.layers}


def _position_means(runtime: Runtime, images: np.ndarray, layers: Sequence[str]) -> Row:
    maps = runtime.run(images, layers)
    return {layer: maps[layer].mean(axis=(2, 3), dtype=np.float64) for layer in layers}


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Descriptors of some images, in their order.

    Attributes:
        images: Their names; images without one are numbered from 0.
        layers: By name of the layer, (images, d) float32.
    """

    images: tuple[str, ...]
    layers: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.layers[layer]

    def to_frame(self) -> "pd.DataFrame":
        """One row per image.

        Returns:
            Columns image, then one per number of each layer: relu7_0, relu7_1, ...
        """
        import pandas as pd

        numbers = [
            pd.DataFrame(rows, columns=[f"{layer}_{i}" for i in range(rows.shape[1])])
            for layer, rows in self.layers.items()
        ]
        return pd.concat([named_frame({"image": list(self.images)}), *numbers], axis=1)
