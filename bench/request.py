"""What a command line asks for."""

from pathlib import Path
from typing import Literal, NamedTuple

import click

from bench.gate.gate_limits import GateLimits
from vgg_deploy.net.input_convention import Channels, StatedInput


class BenchRequest(NamedTuple):
    """The options, as their help tells."""

    models: tuple[Path, ...]
    sides: tuple[int, ...] | None
    protocols: str | None
    fuse: tuple[str, ...]
    paper_tables: bool
    data: str | None
    measure: tuple[str, ...]  # "accuracy", "latency"
    flips: bool
    no_labels: bool
    max_top1_drop: float | None
    max_top5_drop: float | None
    min_agreement: float | None
    max_top1_error: float | None
    max_posterior_difference: float | None
    max_left_out: int | None
    gate_rows: tuple[str, ...]
    undecided: str | None  # "pass", "fail"; None: exit code 3
    batches: tuple[int, ...]
    latency_seconds: float  # least time of a row
    accuracy_batch: int
    images: int | Literal["auto"] | None
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
    def limits(self) -> GateLimits:
        """Of the gate."""
        return GateLimits(
            self.max_top1_drop, self.max_top5_drop, self.min_agreement, self.max_top1_error,
            self.max_posterior_difference, self.max_left_out,
        )  # fmt: skip


def refuse_contradictions(request: BenchRequest) -> None:
    """Raises: click's errors for options that are wrong together, whatever the files hold."""
    _ = request.stated  # refuses values that contradict each other
    if not request.measure:
        raise click.BadParameter(
            "names nothing; choose from accuracy, latency", param_hint="--measure"
        )
    if request.paper_tables and (request.sides or request.protocols or request.fuse):
        raise click.UsageError(
            "--paper-tables fixes scales, protocols and fusions; leave --scales, --protocols and --fuse out"
        )
    if request.no_labels and request.data is None:
        raise click.UsageError("--no-labels is about the photos of --data; name their folder")
    limits = request.limits
    if limits and "accuracy" not in request.measure:
        raise click.UsageError("a limit is judged on accuracy; add accuracy to --measure")
    if request.images == "auto" and not limits.counts_images:
        raise click.UsageError(
            "--images auto scores images until limits are decided; give it one that images decide: "
            "--max-top1-drop, --max-top5-drop, --min-agreement or --max-top1-error"
        )
    if request.no_labels and limits.needs_labels:
        raise click.UsageError(
            "a limit on accuracy needs labels, and --no-labels says that there are none; leave one of the two out"
        )
    for given, name in ((request.gate_rows, "--gate-rows"), (request.undecided, "--undecided")):
        if given and not limits:
            raise click.UsageError(
                f"{name} is about a gate; give a limit, such as --max-top1-drop 0.5"
            )
