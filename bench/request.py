"""What a command line asks for."""

from pathlib import Path
from typing import NamedTuple

import click

from vgg_deploy.convention import Channels, StatedInput


class Request(NamedTuple):
    """The options, as their help tells."""

    models: tuple[Path, ...]
    sides: tuple[int, ...] | None
    protocols: str | None
    fuse: tuple[str, ...]
    paper_tables: bool
    data: str | None
    measure: tuple[str, ...]  # "accuracy", "latency"
    flips: bool
    max_top1_drop: float | None
    max_top5_drop: float | None
    min_agreement: float | None
    batches: tuple[int, ...]
    latency_seconds: float  # least time of a row
    accuracy_batch: int
    images: int | None
    device: str
    runtime_names: tuple[str, ...]
    precisions: tuple[str, ...]
    cuda_graphs: bool
    side_by_side: bool
    threads: int | None
    on_error: str
    cells: Path
    cell_type: str
    out: Path
    classes: tuple[str, ...]
    mean: Channels | None
    std: Channels | None
    channel_order: str | None
    crop: int | None

    @property
    def stated(self) -> StatedInput:
        """Of weights of other projects. Raises: InputError for values of two units."""
        return StatedInput(self.mean, self.std, self.channel_order, self.crop)

    @property
    def limits(self) -> tuple[float | None, ...]:
        """Of the gate: top-1 drop, top-5 drop, agreement."""
        return self.max_top1_drop, self.max_top5_drop, self.min_agreement


def refuse_contradictions(request: Request) -> None:
    """Raises: click's errors for options that are wrong together, whatever the files hold."""
    _ = request.stated  # refuses values that contradict each other
    if not request.measure:
        raise click.BadParameter("names nothing; choose from accuracy, latency", param_hint="--measure")
    if request.paper_tables and (request.sides or request.protocols or request.fuse):
        raise click.UsageError("--paper-tables fixes scales, protocols and fusions; leave --scales, --protocols and --fuse out")
    if request.limits != (None, None, None) and "accuracy" not in request.measure:
        raise click.UsageError("a limit is judged on accuracy; add accuracy to --measure")
