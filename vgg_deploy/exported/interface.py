"""Describes how a graph's input and outputs differ from the usual ones.

Usually a graph takes rescaled images of any size and gives posteriors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vgg_deploy.errors import InputError
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.json_files import JsonObject, entry
from vgg_deploy.number_bounds import MOST_BATCH, MOST_SIDE

WHOLE = "whole"  # form of the input: (N, H, W, 3) uint8 RGB of any size, rescaled by the graph
LOGITS = "logits"  # output in place of the posterior: (N, classes), its softmax is the posterior
PIXELS = (
    "rescale.pixels"  # value inside such a graph: what the convolutions see, (N, 3, h, w) uint8
)
VIEWS = ("dense", "centre")  # what is scored of a rescaled image: all of it, or its centre crop
MOST_LENGTH = 65_535  # of a side of a fixed shape, pixels


@dataclass(frozen=True)
class Interface:
    """What is unusual about a graph's input and outputs.

    Attributes:
        side: Q, pixels, to which the graph itself rescales whole images; None: the caller does.
        view: Of VIEWS, of whole images.
        shape: (N, H, W) of the only batch that the graph takes; None: any.
        logits: Whether it gives LOGITS in place of the posterior.
    """

    side: int | None = None
    view: str = VIEWS[0]
    shape: tuple[int, int, int] | None = None
    logits: bool = False

    @property
    def count(self) -> int | None:
        """The only batch size, if there is one."""
        return self.shape[0] if self.shape else None

    def input_shape(self) -> tuple[int, ...] | None:
        """The only shape of the input, if there is one."""
        if self.shape is None:
            return None
        count, height, width = self.shape
        return (count, height, width, 3) if self.side else (count, 3, height, width)

    def text(self) -> str:
        """The only shape of the input, as in 1x3x224x224; empty if it takes any."""
        return "x".join(map(str, self.input_shape() or ()))

    def seen(self, images: Sequence[int], crop: int) -> tuple[int, int, int, int]:
        """The shape that the convolutions see.

        Args:
            images: (N, 3, H, W) of the images that the graph is given.
            crop: Of the net, pixels.
        """
        count, channels, height, width = images
        if self.side is None:
            return count, channels, height, width
        if self.view == "centre":
            return count, channels, crop, crop
        return count, channels, *rescaled_size(height, width, self.side)

    def graph_name(self, output: str) -> str:
        """The graph's name of an output."""
        return LOGITS if self.logits and output == "posterior" else output

    def fields(self) -> dict[str, object]:
        """What is unusual, ready for JSON; empty if nothing is."""
        found: dict[str, object] = {}
        if self.side is not None:
            found |= {"whole_images": self.side, "view": self.view}
        if self.shape is not None:
            found["shape"] = list(self.shape)
        if self.logits:
            found["logits"] = True
        return found

    @classmethod
    def from_fields(cls, described: JsonObject, crop: int, where: str, hint: str) -> "Interface":
        """Read what `fields` wrote; other entries are ignored.

        Args:
            described: By name.
            crop: Of the net, pixels.
            where: Names the file in errors.
            hint: What the user can do about a damaged file.

        Raises:
            InputError: For values that no graph has.
        """
        side, view, shape = None, VIEWS[0], None
        if "whole_images" in described:
            side = entry(described, "whole_images", int, where, hint)
            view = entry(described, "view", str, where, hint)
            if not crop <= side <= MOST_SIDE or view not in VIEWS:
                raise InputError(f"{where}: Q {side} or view {view!r:.40} is impossible", hint)
        if "shape" in described:
            listed = entry(described, "shape", list, where, hint)
            if not is_shape(listed):
                raise InputError(f"{where}: shape {listed!r:.60} is no batch of images", hint)
            shape = (listed[0], listed[1], listed[2])
        logits = "logits" in described and entry(described, "logits", bool, where, hint)
        return cls(side, view, shape, logits)


USUAL = Interface()


def is_shape(listed: Sequence[object]) -> bool:
    """Whether these are N, H and W of a batch of images."""
    return len(listed) == 3 and all(
        type(size) is int and 1 <= size <= most
        for size, most in zip(listed, (MOST_BATCH, MOST_LENGTH, MOST_LENGTH), strict=True)
    )
