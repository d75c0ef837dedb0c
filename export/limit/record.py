"""What was tried to keep a limit, for the manifest, a CSV file and the terminal."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from rich.console import Console

from export.limit.attempts import Attempt
from export.limit.criterion import Criterion, Tally
from export.limit.search import Kept
from export.quantize.sensitivity import Sensitivity
from vgg_deploy.errors import CheckFailed, Undecided
from vgg_deploy.files import whole_file
from vgg_deploy.terminal_tables import Column, print_table

ALONE, CHOOSING, JUDGED = "alone", "choosing", "judging"  # steps


@dataclass(frozen=True)
class Trial:
    """One net or file that was tried; fields are columns of the CSV.

    Attributes:
        step: "alone": one layer is quantized, simulated; "choosing": some layers are kept,
            simulated; "judging": some layers are kept, the file itself.
        alone: The layer that is quantized alone; empty in other steps.
        kept: Names of the layers that stay in float, with spaces between.
        images: Number of images.
        lost: Images that only the float32 net has right; without labels, changed answers.
        won: Images that only the quantized net has right.
        loss_pct: Percentage points; missing for "alone".
        high_pct: Its upper bound, one-sided, by the level; for "choosing" the bound that the
            judging images would give at the same rates; missing for "alone".
        level_pct: Chance that the loss is above that bound; missing for "alone".
        sqnr_db: Of the scores, for "alone".
        passes: "yes" or "no": whether the limit would be shown to be kept, or is; missing for
            "alone".
    """

    step: str
    alone: str
    kept: str
    images: int
    lost: int | None
    won: int | None
    loss_pct: float | None
    high_pct: float | None
    level_pct: float | None
    sqnr_db: float | None
    passes: str


@dataclass(eq=False)
class LimitRecord:
    """How a file came to keep a limit, or why none does.

    Attributes:
        precision: Of the file.
        criterion: The limit.
        order: The layers that could be quantized: the most sensitive first once `rank` was called,
            until then in running order.
        photos: Which images did what, in words.
        reference: Of the losses, in words.
        measured: What ran the file, in words.
        error_pct: The float32 net's top-1 error on the judging images; None without labels.
        trials: Everything that was tried.
        attempts: The files that were judged, the last of them last.
    """

    precision: str
    criterion: Criterion
    order: tuple[str, ...]
    photos: str
    reference: str
    measured: str
    error_pct: float | None
    trials: list[Trial]
    attempts: list[Attempt]
    is_ranked: bool = False

    def rank(self, measure: Callable[[], list[Sensitivity]]) -> tuple[str, ...]:
        """Put the layers in order by what each of them costs alone; a second call changes nothing.

        Args:
            measure: Gives the cost of every layer, in running order.

        Returns:
            The layers, the most sensitive first.
        """
        if not self.is_ranked:
            alone = measure()
            by_error = sorted(alone, key=lambda row: (row.sqnr_db, row.layer))
            self.order = tuple(row.layer for row in by_error)
            self.trials += [alone_row(row, self.order) for row in alone]
            self.is_ranked = True
        return self.order

    def document(self) -> dict[str, object]:
        """For the manifest of a file that keeps the limit."""
        last = self.attempts[-1]
        return {
            "limit_points": self.criterion.points,
            "of": "top-1 accuracy" if self.criterion.labelled else "changed answers",
            "loss_points": 100 * last.evidence.estimate,
            "high_points": 100 * last.evidence.high,
            "confidence": 1 - last.level,
            "lost": last.tally.lost,
            "won": last.tally.won,
            "judging_images": last.tally.images,
            "reference_error_pct": self.error_pct,
            "images": self.photos,
            "reference": self.reference,
            "measured": self.measured,
            "kept": [{"layer": name, "why": self.why(name)} for name in self._sorted(last)],
            "trials": [vars(trial) for trial in self.trials],
        }

    def why(self, layer: str) -> str:
        """Why a layer is kept: its rank, and what happened when it was quantized too."""
        rank = self.order.index(layer) + 1
        text = f"rank {rank} of {len(self.order)} by the error that it causes alone"
        without = self._trial_without(layer)
        if without is None:
            return text
        return f"{text}; quantized too, {without.lost} of {without.images} choosing images are lost"

    def text(self) -> str:
        """In one sentence, of a file that keeps the limit."""
        last = self.attempts[-1]
        kept = ", ".join(self._sorted(last)) or "no layer"
        return (
            f"keeps the limit of {self.criterion.points:g} points: {_loss(self, last)}; "
            f"in float: {kept}"
        )

    def _sorted(self, attempt: Attempt) -> list[str]:
        return sorted(attempt.kept, key=self.order.index)

    def _trial_without(self, layer: str) -> Trial | None:
        """The trial in which only this layer of the kept ones was quantized too."""
        rest = self.attempts[-1].kept - {layer}
        for trial in self.trials:
            if trial.step == CHOOSING and frozenset(trial.kept.split()) == rest:
                return trial
        return None


class LimitBroken(CheckFailed):
    """No file was shown to keep the limit, and the best was shown to break it."""

    def __init__(self, what: str, record: LimitRecord):
        super().__init__(what)
        self.record = record


class LimitUndecided(Undecided):
    """No file was shown to keep the limit, and the best was not shown to break it."""

    def __init__(self, what: str, record: LimitRecord):
        super().__init__(what)
        self.record = record


def failure(record: LimitRecord, best: Attempt, table: Path) -> LimitBroken | LimitUndecided:
    """The error of a limit that no file was shown to keep.

    Args:
        record: What was tried.
        best: The best file.
        table: The CSV file of the trials.
    """
    points = record.criterion.points
    names = ",".join(record._sorted(best))
    without = f"with --keep {names} and no limit" if names else "without the limit"
    tail = (
        f"{_loss(record, best)}; {len(record.attempts)} of the files that were tried were judged, "
        f"see {table.name}; the best can be written {without}"
    )
    if best.disproves:
        return LimitBroken(f"no file keeps the limit of {points:g} points: at best {tail}", record)
    needed = record.criterion.to_decide(best.tally)
    count = "no number of images decides at" if needed is None else f"about {needed:,} judging at"
    about = f"{count} these rates" if needed is None else f"it takes {count} these rates"
    return LimitUndecided(
        f"not enough images to show that the limit of {points:g} points is kept: {about}; "
        f"at best {tail}",
        record,
    )


def write_trials(record: LimitRecord, path: Path) -> None:
    """Write the CSV file.

    Raises:
        InputError: If it cannot be written.
    """
    names = [field.name for field in fields(Trial)]
    with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(trial) for trial in record.trials)


def tried_row(
    step: str,
    order: tuple[str, ...],
    kept: Kept,
    tally: Tally,
    high: float,
    level: float,
    passes: bool,
) -> Trial:
    """The row of a set of layers.

    Args:
        step: CHOOSING or JUDGED.
        order: All layers that can be quantized, the most sensitive first.
        kept: Those in float.
        tally: What counts on the images.
        high: Upper bound of the loss, a fraction.
        level: Chance that the loss exceeds it.
        passes: Whether the bound is within the limit.
    """
    names = " ".join(name for name in order if name in kept)
    loss = 100 * (tally.lost - tally.won) / tally.images
    answer = "yes" if passes else "no"
    counts = (tally.images, tally.lost, tally.won)
    return Trial(step, "", names, *counts, loss, 100 * high, 100 * level, None, answer)


def alone_row(row: Sensitivity, order: tuple[str, ...]) -> Trial:
    """The row of a layer that is quantized alone."""
    others = " ".join(name for name in order if name != row.layer)
    return Trial(
        ALONE, row.layer, others, row.images, None, None, None, None, None, row.sqnr_db, ""
    )


def show_limit(record: LimitRecord, console: Console | None = None) -> None:
    """Print what was tried on nets and files, in the order of the trials.

    Args:
        record: Of a file.
        console: Where to print it; by default standard output.
    """
    rows = [trial for trial in record.trials if trial.step != ALONE]
    limited = "top-1 points" if record.criterion.labelled else "changed answers"
    print_table(
        f"{record.precision}: layers in float, limit {record.criterion.points:g} {limited}",
        [
            Column("images", [f"{row.images} {row.step}" for row in rows], words=True),
            Column("in float", [row.kept or "none" for row in rows], words=True),
            Column("lost", [str(row.lost) for row in rows]),
            Column("won", [str(row.won) for row in rows], spare=1),
            Column("loss", [f"{row.loss_pct:.2f}" for row in rows]),
            Column("at most", [f"{row.high_pct:.2f}" for row in rows]),
            Column("enough", [row.passes for row in rows]),
        ],
        console=console,
    )


def _loss(record: LimitRecord, attempt: Attempt) -> str:
    words = record.criterion.loss_in_words(attempt.tally, attempt.evidence)
    return f"{words}, {100 * (1 - attempt.level):g} % one-sided"
