"""Defines how far a run has come: what a checkpoint holds besides weights and the optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from train.record.measures import MEASURES
from train.record.tables import Row

KNOWN_COLUMNS = {name for measures in MEASURES.values() for name in measures.columns}
# earlier versions did not write them
LATER_FIELDS = ("window", "window_s", "colours", "micro_batch")


def _no_sums() -> list[float]:
    return [0.0] * 4


@dataclass
class State:
    """How far a run has come; everything here goes into last.pt.

    It holds no generator's state: order, views and dropout are drawn from the seed, the epoch, the
    image and the step.

    Attributes:
        images: Number of training images, which makes the length of an epoch.
        step: Updates so far.
        errors: Validation error after each epoch, in per cent: top-1, or of a localiser the
            localisation error.
        rows: Of metrics.csv.
        tally: Sums over the images of the current epoch: loss, top-1 errors, top-5 errors, images.
            Of a localiser: loss, wrong boxes, intersections over unions, images.
        epoch_s: Seconds spent on the updates of the current epoch.
        elapsed_s: Seconds spent on the run.
        window: As `tally`, since the last row of steps.csv.
        window_s: Seconds spent on the updates of `window`.
        colours: Of the training images, as `Colours.as_json` gives them; None in checkpoints of
            earlier versions.
        micro_batch: Images at once in an update, per process, which memory may have made smaller;
            0 until the first update.
    """

    images: int
    step: int = 0
    errors: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    tally: list[float] = field(default_factory=_no_sums)
    epoch_s: float = 0.0
    elapsed_s: float = 0.0
    window: list[float] = field(default_factory=_no_sums)
    window_s: float = 0.0
    colours: dict[str, Any] | None = None
    micro_batch: int = 0

    @classmethod
    def from_checkpoint(cls, training: Mapping[str, Any]) -> "State":
        """Read the state from a checkpoint's `training`, which may be an earlier version's.

        Raises:
            KeyError: If a field is missing.
            TypeError: If a field has another type.
        """
        names = [entry.name for entry in fields(cls)]
        saved = [name for name in names if name in training or name not in LATER_FIELDS]
        if not isinstance(training, Mapping):
            raise TypeError("no dictionary")
        state = cls(**{name: training[name] for name in saved})
        state._check()
        return state

    def _check(self) -> None:
        """Check the types of all fields.

        Raises:
            TypeError: Naming the first that is wrong.
        """
        sound = {
            "images": _is_count(self.images) and self.images > 0,
            "step": _is_count(self.step),
            "micro_batch": _is_count(self.micro_batch),
            "errors": isinstance(self.errors, list) and all(map(_is_number, self.errors)),
            "rows": isinstance(self.rows, list) and all(map(_is_row, self.rows)),
            "colours": self.colours is None or isinstance(self.colours, dict),
        }
        for name in ("tally", "window"):
            sums = getattr(self, name)
            sound[name] = isinstance(sums, list) and len(sums) == 4 and all(map(_is_number, sums))
        for name in ("epoch_s", "elapsed_s", "window_s"):
            sound[name] = _is_number(getattr(self, name))
        wrong = [name for name, is_sound in sound.items() if not is_sound]
        if wrong:
            raise TypeError(f"{wrong[0]} is {getattr(self, wrong[0])!r:.60}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_row(row: object) -> bool:
    """Whether a value is a row of metrics.csv; earlier versions have fewer columns."""
    return isinstance(row, dict) and all(
        name in KNOWN_COLUMNS and (_is_number(value) or value in ("", None))
        for name, value in row.items()
    )
