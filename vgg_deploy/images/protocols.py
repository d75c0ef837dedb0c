"""Holds the paper's ways of testing as data: which views of an image are averaged (section 3.2)."""

from dataclasses import dataclass

DENSE = "dense"  # softmax of the averaged score map, as section 3.2 describes it
# The other reading of the text: softmax at every position, then the average
DENSE_SOFTMAX_FIRST = "dense-softmax-first"
WHOLE_IMAGE = (DENSE, DENSE_SOFTMAX_FIRST)


@dataclass(frozen=True)
class Protocol:
    """A way of testing: which views, with equal weight, and whether mirror images belong to it."""

    view_sets: tuple[str, ...]  # of WHOLE_IMAGE, or names in `crops.VIEW_SETS`
    flips: tuple[bool, ...] = (False, True)  # its rows: without mirror images, with

    @property
    def always_flips(self) -> bool:
        """Whether mirror images are part of its definition."""
        return self.flips == (True,)

    def rows_of_flips(self, flips: bool) -> tuple[bool, ...]:
        """Its rows, if mirror images are asked for or not."""
        if flips or self.always_flips:
            return self.flips
        return tuple(flip for flip in self.flips if not flip)


PROTOCOLS = {
    "dense": Protocol((DENSE,)),
    "multicrop": Protocol(("multicrop",)),
    "multicrop+dense": Protocol(("multicrop", DENSE)),
    "centre": Protocol(("centre",), flips=(False,)),
    "ten": Protocol(("ten",), flips=(True,)),
    "googlenet": Protocol(("googlenet",), flips=(True,)),
    "dense-softmax-first": Protocol((DENSE_SOFTMAX_FIRST,)),
    "multicrop+dense-softmax-first": Protocol(("multicrop", DENSE_SOFTMAX_FIRST)),
}
FIXED_SCALES = "googlenet"  # the protocol that has scales of its own


def googlenet_sides(crop: int) -> tuple[int, ...]:
    """GoogLeNet's four scales: 256, 288, 320 and 352 for the crop 224, in proportion for others."""
    return tuple(round(crop * sevenths / 7) for sevenths in (8, 9, 10, 11))
