"""All that a run shows beside an earlier one: rows of a table, and sentences about the rest."""

from dataclasses import dataclass, field

from bench.earlier.answers import Answers, EarlierPair
from bench.earlier.costs import Times
from bench.earlier.rows import AgainstRow
from bench.earlier.run import EarlierRun, shown_names

NAN = float("nan")


@dataclass
class Against:
    """What was compared.

    Attributes:
        earlier: The earlier run.
        rows: Of against.csv.
        notes: Sentences about what was compared.
        warnings: Sentences about what the comparison does not show.
        new: What the earlier run lacks.
        lost: What only the earlier run has.
    """

    earlier: EarlierRun
    rows: list[AgainstRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Which run this one is compared with."""
        run = self.earlier
        when = f"{run.when:%Y-%m-%d %H:%M} UTC"
        commit = f", commit {run.commit.shown}" if run.commit else ""
        return f"Against {run.folder} of {when}{commit}"

    @property
    def lines(self) -> list[str]:
        """All sentences, for people."""
        lines = [*self.notes, *(f"Warning: {text}." for text in self.warnings)]
        if self.new:
            lines.append(f"Not in the earlier run: {shown_names(self.new)}.")
        if self.lost:
            lines.append(f"Only in the earlier run: {shown_names(self.lost)}.")
        return lines

    def add_answers(self, answers: Answers) -> None:
        """Take the rows of both runs."""
        for one in answers.pairs:
            self.rows += _answer_rows(one)
        self.notes.append(answers.images)
        self.new += answers.new
        self.lost += answers.lost

    def add_times(self, times: Times) -> None:
        """Take times beside the earlier run's."""
        self.rows += times.rows
        self.warnings += times.warnings
        self.new += times.new
        self.lost += times.lost


def _answer_rows(one: EarlierPair) -> list[AgainstRow]:
    """Errors and agreement of one row."""
    comparison, errors = one.pair.comparison, one.errors
    described = {
        "model": comparison.model,
        "runtime": comparison.runtime,
        "precision": comparison.precision,
        "row": one.pair.other.row.label,
        "how": f"by image, {comparison.images:,} images",
    }
    rows = [
        AgainstRow(
            **described,
            measure="answers that differ",
            unit="%",
            old=NAN,
            new=100 - comparison.agreement_pct,
            difference=NAN,
            low=NAN,
            high=NAN,
            difference_unit="",
        )
    ]
    if not one.pair.other.labelled:
        return rows
    return [
        AgainstRow(
            **described,
            measure="top-1 error",
            unit="%",
            old=errors.old_top1,
            new=errors.new_top1,
            difference=comparison.top1_difference_pct,
            low=comparison.top1_low_pct,
            high=comparison.top1_high_pct,
            difference_unit="points",
        ),
        AgainstRow(
            **described,
            measure="top-5 error",
            unit="%",
            old=errors.old_top5,
            new=errors.new_top5,
            difference=comparison.top5_difference_pct,
            low=comparison.top5_low_pct,
            high=comparison.top5_high_pct,
            difference_unit="points",
        ),
        *rows,
    ]
