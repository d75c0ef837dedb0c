"""The rows of the accuracy table as weighted cells (sections 3.2, 4 of the paper).

A cell is the posterior of one model at one scale from one set of views. A row of the accuracy table
is a weighted average of cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vgg_deploy.images.crops import VIEW_SETS
from vgg_deploy.images.protocols import FIXED_SCALES, PROTOCOLS, WHOLE_IMAGE, googlenet_sides
from vgg_deploy.net.spec import NetSpec

Sides = tuple[int, ...]  # values of Q, pixels


class Cell(NamedTuple):
    """The smallest unit of an accuracy measurement: one model, one Q, one set of views."""

    model: int  # index among the models of the run
    side: int  # Q, pixels
    views: str  # of WHOLE_IMAGE, or a name in VIEW_SETS
    mirrored: bool


def protocol_label(protocol: str, flips: bool) -> str:
    """The protocol, and whether mirror images are missing where there could be some.

    Example:
        >>> protocol_label("dense", flips=False)
        'dense, no flips'
        >>> protocol_label("centre", flips=False)
        'centre'
    """
    could_flip = True in PROTOCOLS[protocol].flips
    return f"{protocol}, no flips" if could_flip and not flips else protocol


class Member(NamedTuple):
    """A net in a row, and the scales that it is tested at."""

    model: int  # index among the models of the run
    sides: Sides


@dataclass(frozen=True)
class Row:
    """One row of the accuracy table: an average over nets, view sets, scales and flips."""

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
        """The cells that are averaged, each with its weight.

        Weights sum to 1. Nets have equal weights, then the view sets of a net, then its scales,
        then flips.
        """
        view_sets = PROTOCOLS[self.protocol].view_sets
        mirrored = (False, True) if self.flips else (False,)
        cells = []
        for member in self.members:
            equal_parts = len(self.members) * len(view_sets) * len(member.sides) * len(mirrored)
            for views in view_sets:
                for side in member.sides:
                    for mirror in mirrored:
                        cell = Cell(member.model, side, views, mirror)
                        cells.append((cell, 1 / equal_parts))
        return cells

    def views(self, specs: Sequence[NetSpec]) -> int:
        """Number of views of one image that are scored.

        At small Q, equal views count as often as they are averaged.

        Args:
            specs: Of all models of the run.
        """
        return sum(views_per_image(cell, specs[cell.model].crop) for cell, _ in self.cells())


def views_per_image(cell: Cell, crop: int) -> int:
    """Number of views of one image: 1 for the whole image, else the crops of the set.

    Args:
        cell: Says which views.
        crop: Side of the net's crop, pixels.
    """
    if cell.views in WHOLE_IMAGE:
        return 1
    return len(VIEW_SETS[cell.views](cell.side, cell.side, crop))


def rows_of(
    members: tuple[int, ...],
    specs: Sequence[NetSpec],
    protocols: tuple[str, ...],
    sides: Sides | None,
    flips: bool,
) -> list[Row]:
    """All rows of one net or of one fusion: each scale alone, then all scales together.

    Args:
        members: Indices of the nets.
        specs: Of all models of the run.
        protocols: Names in PROTOCOLS.
        sides: Q in pixels; None takes them from each net's S (section 4).
        flips: Whether rows with mirror images are asked for.
    """
    rows = []
    for name in protocols:
        for label, sides_of_members in _scale_choices([specs[m] for m in members], name, sides):
            with_sides = tuple(map(Member, members, sides_of_members))
            for flip in PROTOCOLS[name].rows_of_flips(flips):
                rows.append(Row(with_sides, name, label, flip))
    return rows


def _scale_choices(
    specs: Sequence[NetSpec], protocol: str, sides: Sides | None
) -> list[tuple[str, list[Sides]]]:
    """The scales of the rows of a protocol.

    Returns:
        One entry per choice: its label, and Q of each net.
    """
    if protocol == FIXED_SCALES:
        return [_labelled([googlenet_sides(spec.crop) for spec in specs])]
    if sides is None:
        single = _labelled([(spec.test_side,) for spec in specs])
        multi = _labelled([spec.test_sides for spec in specs])
        return [(f"single {single[0]}", single[1]), (f"multi {multi[0]}", multi[1])]
    choices: list[Sides] = [(side,) for side in sides]
    if len(sides) > 1:
        choices.append(sides)
    return [_labelled([choice] * len(specs)) for choice in choices]


def _labelled(sides_of_nets: list[Sides]) -> tuple[str, list[Sides]]:
    """A label for the scales of several nets: "256+384", once if all nets are tested alike."""
    labels = dict.fromkeys("+".join(map(str, sides)) for sides in sides_of_nets)
    return " | ".join(labels), sides_of_nets
