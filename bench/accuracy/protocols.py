"""What the paper's ways of testing average: protocols as data, rows of a table as weighted cells (sections 3.2, 4)."""

from dataclasses import dataclass
from typing import NamedTuple

from vgg_deploy.images.crops import VIEW_SETS
from vgg_deploy.net.spec import NetSpec

DENSE = "dense"  # softmax of the averaged score map, as section 3.2 tells it
DENSE_SOFTMAX_FIRST = "dense-softmax-first"  # softmax at every position, then the average: the other reading of the text
WHOLE_IMAGE = (DENSE, DENSE_SOFTMAX_FIRST)


class Cell(NamedTuple):
    """The smallest unit of an accuracy measurement: posteriors of one model at one Q from one set of views."""

    model: int  # position among the models of the run
    side: int  # Q, pixels
    views: str  # of WHOLE_IMAGE, or a name in VIEW_SETS
    mirrored: bool


@dataclass(frozen=True)
class Protocol:
    """A way of testing: which views, with equal weight, and whether mirror images are part of it."""

    view_sets: tuple[str, ...]
    flips: tuple[bool, ...] = (False, True)  # the rows there are: without mirror images, with


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
FIXED_SCALES = "googlenet"  # the protocol that brings its own


def protocol_label(protocol: str, flips: bool) -> str:
    """The protocol, and whether mirror images are missing where there could be some."""
    return protocol if flips or True not in PROTOCOLS[protocol].flips else f"{protocol}, no flips"


def googlenet_sides(crop: int) -> tuple[int, ...]:
    """256, 288, 320 and 352 for the crop 224, in proportion for others."""
    return tuple(round(crop * sevenths / 7) for sevenths in (8, 9, 10, 11))


class Member(NamedTuple):
    """A net in a row, and the Q it is tested at."""

    model: int
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One line of the accuracy table: an average of posteriors over nets, view sets, scales and flips."""

    members: tuple[Member, ...]  # more than one: fusion of nets
    protocol: str
    scales: str  # "256+384+512"; by each net's S: "single" or "multi" before the sizes
    flips: bool

    @property
    def label(self) -> str:
        """Protocol, scales and flips, for people: "dense, Q 256+384, no flips"."""
        protocol, _, missing = protocol_label(self.protocol, self.flips).partition(", ")
        kinds = PROTOCOLS[self.protocol].flips
        flips = missing or ("flips" if False in kinds and True in kinds else "")
        return ", ".join(part for part in (protocol, f"Q {self.scales}", flips) if part)

    def cells(self) -> list[tuple[Cell, float]]:
        """What is averaged, and its weight; weights sum to 1. Nets count alike, then view sets, then scales, then flips."""
        view_sets, mirrored = (
            PROTOCOLS[self.protocol].view_sets,
            (False, True) if self.flips else (False,),
        )
        return [
            (
                Cell(m.model, side, views, mirror),
                1 / (len(self.members) * len(view_sets) * len(m.sides) * len(mirrored)),
            )
            for m in self.members
            for views in view_sets
            for side in m.sides
            for mirror in mirrored
        ]

    def views(self, specs: list[NetSpec]) -> int:
        """Pictures of one image that are scored; equal ones at small Q count as often as they are averaged."""
        return sum(views_per_image(cell, specs[cell.model].crop) for cell, _ in self.cells())


def views_per_image(cell: Cell, crop: int) -> int:
    """1 for the whole image, else the crops of the set."""
    return (
        1 if cell.views in WHOLE_IMAGE else len(VIEW_SETS[cell.views](cell.side, cell.side, crop))
    )


def rows_of(
    members: tuple[int, ...],
    specs: list[NetSpec],
    protocols: tuple[str, ...],
    sides: tuple[int, ...] | None,
    flips: bool,
) -> list[Row]:
    """Every row of one net or of one fusion: each scale alone, and together.

    Args: members, positions of the nets; specs, of all nets of the run; sides, Q; None: by each net's S (section 4).
    """
    rows = []
    for name in protocols:
        wanted = [
            flip
            for flip in PROTOCOLS[name].flips
            if flip <= flips or PROTOCOLS[name].flips == (True,)
        ]
        for label, per_member in _scale_choices([specs[m] for m in members], name, sides):
            together = tuple(
                Member(m, chosen) for m, chosen in zip(members, per_member, strict=True)
            )
            rows += [Row(together, name, label, flip) for flip in wanted]
    return rows


def _scale_choices(
    specs: list[NetSpec], protocol: str, sides: tuple[int, ...] | None
) -> list[tuple[str, list[tuple[int, ...]]]]:
    """(label, Q of each net)"""
    if protocol == FIXED_SCALES:
        fixed = [googlenet_sides(spec.crop) for spec in specs]
        return [(_label(fixed), fixed)]
    if sides is not None:
        together = [sides] if len(sides) > 1 else []
        return [
            (_label([chosen]), [chosen] * len(specs))
            for chosen in [*((side,) for side in sides), *together]
        ]
    single, multi = [(spec.test_side,) for spec in specs], [spec.test_sides for spec in specs]
    return [(f"single {_label(single)}", single), (f"multi {_label(multi)}", multi)]


def _label(per_member: list[tuple[int, ...]]) -> str:
    """Once if all nets are tested alike."""
    return " | ".join(dict.fromkeys("+".join(map(str, sides)) for sides in per_member))
