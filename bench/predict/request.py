"""Holds the options of vgg-predict in one record."""

from dataclasses import dataclass
from pathlib import Path

import click

from vgg_deploy.net.input_convention import Channels, StatedInput

FORMATS = ("table", "csv", "jsonl", "parquet")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class PredictRequest:
    """The options of vgg-predict, named as in its help texts."""

    model: Path | str  # a file, or weights by name
    inputs: tuple[str, ...]
    # how images are tested
    protocol: str | None  # None: dense, or what the file scores by itself
    sides: tuple[int, ...] | None  # Q, pixels
    flips: bool
    top: int
    # what the model is, and where it runs
    classes: Path | None
    device: str
    runtime: str | None
    precision: str
    threads: int | None
    batch: int
    mean: Channels | None
    std: Channels | None
    channel_order: str | None
    crop: int | None
    verify: Path | None  # a public key
    # what is written
    form: str | None  # of FORMATS; None: by the suffix of `out`
    out: Path | None
    maps: Path | None
    boxes_by: Path | None  # a localiser
    boxes: Path | None
    on_error: str

    @property
    def format(self) -> str:
        """Of the output, one of FORMATS."""
        if self.form:
            return self.form
        return SUFFIXES.get(self.out.suffix.lower(), "table") if self.out else "table"

    @property
    def stated(self) -> StatedInput:
        """The input of weights of other projects.

        Raises:
            InputError: If mean and std have different units.
        """
        return StatedInput(self.mean, self.std, self.channel_order, self.crop)


def refuse_contradictions(request: PredictRequest) -> None:
    """Check options that are wrong together, whatever the files contain.

    Raises:
        click.UsageError: If two options contradict each other.
        InputError: If the stated input contradicts itself.
    """
    _ = request.stated
    if (request.boxes_by is None) != (request.boxes is None):
        raise click.UsageError(
            "--boxes-by names the localiser and --boxes the folder of its pictures; give both"
        )
    if request.format == "parquet" and request.out is None:
        raise click.UsageError("--format parquet needs a file; add --out predictions.parquet")
