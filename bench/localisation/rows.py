"""The rows of the localisation table, as data (appendix A).

A row joins a classifier, which chooses the labels, with one box net or several, whose boxes are put
together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vgg_deploy.net.spec import NetSpec

Sides = tuple[int, ...]  # values of Q, pixels

CENTRE = "centre"  # the centre crop: one box for each label (Table 8)
DENSE = "dense"  # the whole image: boxes of all positions and scales, merged (Tables 9 and 10)
PROTOCOLS = (CENTRE, DENSE)


@dataclass(frozen=True)
class LocalisationRow:
    """One row of the localisation table.

    Attributes:
        classifier: Index among the models of the run.
        members: Index of each box net, and Q that it is tested at.
        protocol: One of PROTOCOLS.
    """

    classifier: int
    members: tuple[tuple[int, Sides], ...]
    protocol: str

    @property
    def scales(self) -> str:
        """Q of every net: "96+112", once if all are tested alike."""
        labels = ["+".join(map(str, sides)) for _, sides in self.members]
        return " | ".join(dict.fromkeys(labels))

    @property
    def sides(self) -> Sides:
        """Every Q that any net is tested at, ascending; the classifier sees all of them."""
        return tuple(sorted({side for _, sides in self.members for side in sides}))


def localisation_rows(
    classifiers: int, specs: Sequence[NetSpec], sides: Sides | None
) -> list[LocalisationRow]:
    """All rows: each classifier with each box net, then with all of them together.

    Of a box net: the centre crop at Q = S, whole images at one Q each, then at all of them.

    Args:
        classifiers: Their number.
        specs: Of the box nets.
        sides: Q in pixels; None takes them from each net's S: Q = S, and the scales of section 4.2.
    """
    rows = []
    for classifier in range(classifiers):
        for number, spec in enumerate(specs):
            crops = sides or (spec.test_side,)
            rows += [_one(classifier, number, (side,), CENTRE) for side in crops]
            singles, together = _choices(spec, sides)
            rows += [_one(classifier, number, (side,), DENSE) for side in singles]
            if len(together) > 1:
                rows.append(_one(classifier, number, together, DENSE))
        if len(specs) > 1:
            members = tuple((number, _choices(spec, sides)[1]) for number, spec in enumerate(specs))
            rows.append(LocalisationRow(classifier, members, DENSE))
    return rows


def _one(classifier: int, number: int, sides: Sides, protocol: str) -> LocalisationRow:
    return LocalisationRow(classifier, ((number, sides),), protocol)


def _choices(spec: NetSpec, sides: Sides | None) -> tuple[Sides, Sides]:
    """Q of the rows with one scale, and Q of the row with all of them."""
    return (sides, sides) if sides else ((spec.test_side,), spec.test_sides)
