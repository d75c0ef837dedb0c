"""Holds the options of vgg-bench as typed records, grouped by what they are about."""

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import click

from bench.gate.gate_limits import GateLimits
from bench.load.bound import Bound
from vgg_deploy.net.input_convention import Channels, StatedInput

AUTO_WITHOUT_LIMIT = (
    "--images auto scores images until limits are decided; give it one that images decide: "
    "--max-top1-drop, --max-top5-drop, --min-agreement or --max-top1-error"
)


@dataclass(frozen=True)
class ModelRequest:
    """Which files are opened, and how they run."""

    paths: tuple[Path | str, ...]  # paths and names of weights; empty: the newest exports
    device: str  # "cpu", "cuda"
    threads: int | None  # of each process; None: its share of the cores
    runtime_names: tuple[str, ...]  # empty: the usual runtime of each file
    precisions: tuple[str, ...]  # of checkpoints in PyTorch
    cuda_graphs: bool
    classes: tuple[str, ...]  # FILE or MODEL=FILE
    mean: Channels | None
    std: Channels | None
    channel_order: str | None
    crop: int | None
    verify: Path | None  # a public key that the models must be signed with

    @property
    def stated(self) -> StatedInput:
        """The input of weights of other projects.

        Raises:
            InputError: If mean and std have different units.
        """
        return StatedInput(self.mean, self.std, self.channel_order, self.crop)


@dataclass(frozen=True)
class DataRequest:
    """Which images are scored."""

    data: str | None  # None: built-in images
    no_labels: bool
    images: int | Literal["auto"] | None  # None: all of them
    on_error: str  # "stop", "skip"
    accuracy_batch: int  # largest batch, images
    exif: str  # "ignore", "apply"


@dataclass(frozen=True)
class TableRequest:
    """Which tables are measured, and which rows they have."""

    measure: tuple[str, ...]  # "accuracy", "latency", "localisation", "memory"
    protocols: str | None
    sides: tuple[int, ...] | None  # Q, pixels; None: by each net's S
    flips: bool
    fuse: tuple[str, ...]
    paper_tables: bool
    batches: tuple[int, ...]  # batch sizes of the latency table
    latency_seconds: float  # minimum time per row
    side_by_side: bool
    against: Path | None  # results of an earlier run
    per_layer: bool
    explain: tuple[Path, ...]  # images

    @property
    def accuracy(self) -> bool:
        """Whether accuracy is measured."""
        return "accuracy" in self.measure

    @property
    def latency(self) -> bool:
        """Whether latency is measured."""
        return "latency" in self.measure

    @property
    def memory(self) -> bool:
        """Whether memory is measured, if no limit asks for it."""
        return "memory" in self.measure


@dataclass(frozen=True)
class BoxRequest:
    """Which localisers state boxes beside the classifiers, and how they are judged."""

    boxes_by: tuple[Path | str, ...]  # localisers; empty: localisation is not measured
    boxes: str | None  # annotations of the images; None: built-in images
    box_coordinates: str  # what their coordinates mean
    blacklist: Path | None  # images that do not count
    merge_match: float
    merge_classes: int


@dataclass(frozen=True)
class LoadRequest:
    """Whether models are measured under load, and how."""

    load: bool
    instances: tuple[int, ...] | None  # None: as many as the cores hold
    batch_delay: float  # ms that an image waits for its batch to fill
    arrival_rates: tuple[float, ...] | None  # images per second; None: around the knee
    latency_bound: tuple[float | None, float]  # of p99: ms, or None and a multiple
    load_seconds: float  # of one measurement

    @property
    def bound(self) -> Bound:
        """What p99 is to stay within."""
        return Bound(*self.latency_bound)


@dataclass(frozen=True)
class GateRequest:
    """What a model may lose, and which rows count."""

    max_top1_drop: float | None
    max_top5_drop: float | None
    min_agreement: float | None
    max_top1_error: float | None
    max_posterior_difference: float | None
    max_left_out: int | None
    max_box_drop: float | None
    min_spearman: float | None
    max_distance_error: float | None
    max_slowdown: float | None
    max_memory: float | None
    max_size: float | None
    gate_rows: tuple[str, ...]
    undecided: str | None  # "pass", "fail"; None: exit code 3

    @property
    def limits(self) -> GateLimits:
        """The limits alone."""
        return GateLimits(
            top1_drop=self.max_top1_drop,
            top5_drop=self.max_top5_drop,
            agreement=self.min_agreement,
            top1_error=self.max_top1_error,
            posterior_difference=self.max_posterior_difference,
            left_out=self.max_left_out,
            box_drop=self.max_box_drop,
            spearman=self.min_spearman,
            distance_error=self.max_distance_error,
            slowdown=self.max_slowdown,
            memory=self.max_memory,
            size=self.max_size,
        )

    @property
    def accept_undecided(self) -> bool | None:
        """Whether an undecided gate counts as passed; None if the options do not say."""
        return None if self.undecided is None else self.undecided == "pass"


@dataclass(frozen=True)
class OutputRequest:
    """Where results and stored posteriors lie."""

    out: Path
    cells: Path
    cell_type: str  # "float32", "float16"
    prune: tuple[tuple[float | None, int | None], ...]  # (days, bytes): remove cells beyond them
    dry_run: bool
    summary: Path | None  # a Markdown file, to which the tables are appended


GROUPS = (
    ModelRequest,
    DataRequest,
    TableRequest,
    BoxRequest,
    LoadRequest,
    GateRequest,
    OutputRequest,
)


@dataclass(frozen=True)
class BenchRequest:
    """All options of vgg-bench. The fields of each group have the names of the parsed options."""

    models: ModelRequest
    data: DataRequest
    tables: TableRequest
    boxes: BoxRequest
    load: LoadRequest
    gate: GateRequest
    output: OutputRequest

    @property
    def only_scores(self) -> bool:
        """Whether posteriors are all that is asked of the models, so that stored ones suffice."""
        limits, tables = self.gate.limits, self.tables
        asks_more = (
            tables.latency,
            tables.memory,
            tables.side_by_side,
            tables.per_layer,
            tables.explain,
            self.boxes.boxes_by,
            limits.slowdown is not None,
            limits.memory is not None,
        )
        return tables.accuracy and not any(asks_more)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "BenchRequest":
        """Sort parsed options into their groups.

        Args:
            options: The value of every field of every group, by the field's name.
        """
        return cls(
            models=ModelRequest(**_select(options, fields(ModelRequest))),
            data=DataRequest(**_select(options, fields(DataRequest))),
            tables=TableRequest(**_select(options, fields(TableRequest))),
            boxes=BoxRequest(**_select(options, fields(BoxRequest))),
            load=LoadRequest(**_select(options, fields(LoadRequest))),
            gate=GateRequest(**_select(options, fields(GateRequest))),
            output=OutputRequest(**_select(options, fields(OutputRequest))),
        )


def _select(options: Mapping[str, Any], group: tuple[Field[Any], ...]) -> dict[str, Any]:
    return {field.name: options[field.name] for field in group}


def refuse_contradictions(request: BenchRequest) -> None:
    """Check options that are wrong together, whatever the files contain.

    Raises:
        click.UsageError: If two options contradict each other.
        InputError: If the stated input contradicts itself.
    """
    _ = request.models.stated  # the record checks itself
    if request.output.dry_run and not request.output.prune:
        raise click.UsageError("--dry-run belongs to --prune; add it, such as --prune 30d")
    if request.output.prune and (request.models.paths or request.gate.limits):
        raise click.UsageError(
            "--prune measures nothing; leave models and limits out, or run it afterwards"
        )
    _refuse_tables(request.tables)
    _refuse_boxes(request)
    if request.load.load:
        _refuse_load(request)
    if request.data.no_labels and request.data.data is None:
        raise click.UsageError("--no-labels is about the images of --data; name their folder")
    if request.gate.limits:
        _refuse_gate(request)
    elif request.data.images == "auto":
        raise click.UsageError(AUTO_WITHOUT_LIMIT)
    else:
        _refuse_gate_options(request.gate)


def _refuse_tables(tables: TableRequest) -> None:
    if not tables.measure:
        message = "names nothing; choose from accuracy, latency, localisation, memory"
        raise click.BadParameter(message, param_hint="--measure")
    if tables.paper_tables and (tables.sides or tables.protocols or tables.fuse):
        raise click.UsageError(
            "--paper-tables fixes scales, protocols and fusions; leave --scales, --protocols and "
            "--fuse out"
        )


def _refuse_boxes(request: BenchRequest) -> None:
    boxes = request.boxes
    if not boxes.boxes_by:
        if boxes.boxes or boxes.blacklist or "localisation" in request.tables.measure:
            raise click.UsageError(
                "boxes are judged beside a classifier by a localiser; add --boxes-by BOXNET.pt"
            )
        return
    if request.data.data is not None and not boxes.boxes:
        raise click.UsageError(
            "--boxes-by needs to know where the objects of --data are; add --boxes ANNOTATIONS"
        )
    if boxes.boxes and request.data.data is None:
        raise click.UsageError(
            "--boxes are of the images of --data, and the built-in images know their own; add "
            "--data, or leave --boxes out"
        )
    if request.data.no_labels:
        raise click.UsageError("boxes belong to classes; leave --no-labels or --boxes-by out")
    if request.data.images == "auto":
        raise click.UsageError(
            "--images auto is for gates of accuracy; with --boxes-by give a number"
        )


def _refuse_load(request: BenchRequest) -> None:
    """Of a request for a load test, which measures nothing else."""
    sides, tables = request.tables.sides, request.tables
    if sides and len(sides) > 1:
        raise click.UsageError("--load measures images of one size; give one number to --scales")
    if request.gate.limits:
        raise click.UsageError("--load has no gate; leave the limit or --load out")
    rates, seconds = request.load.arrival_rates, request.load.load_seconds
    if rates and rates[0] * seconds < 1:
        raise click.UsageError(
            f"--arrival-rates {rates[0]:g}: less than one image arrives in {seconds:g} s; raise "
            "--load-seconds"
        )
    given = (
        ("--protocols", tables.protocols),
        ("--fuse", tables.fuse),
        ("--paper-tables", tables.paper_tables),
        ("--side-by-side", tables.side_by_side),
        ("--against", tables.against),
        ("--per-layer", tables.per_layer),
        ("--explain", tables.explain),
        ("--boxes-by", request.boxes.boxes_by),
        ("--cuda-graphs", request.models.cuda_graphs),
        ("--data", request.data.data),
        ("--images", request.data.images),
        ("--prune", request.output.prune),
    )
    for name, value in given:
        if value:
            raise click.UsageError(f"--load measures load alone; leave {name} out")


def _refuse_gate(request: BenchRequest) -> None:
    """Of a request with at least one limit."""
    limits = request.gate.limits
    if limits.of_images and not request.tables.accuracy:
        raise click.UsageError("a limit is judged on accuracy; add accuracy to --measure")
    if limits.slowdown is not None and not request.tables.latency:
        raise click.UsageError("--max-slowdown is judged on latency; add latency to --measure")
    if limits.box_drop is not None and len(request.boxes.boxes_by) < 2:
        raise click.UsageError(
            "--max-box-drop compares localisers with the first one; name at least two --boxes-by"
        )
    if request.data.images == "auto" and not limits.counts_images:
        raise click.UsageError(AUTO_WITHOUT_LIMIT)
    sequential = request.data.images == "auto"
    for name, given in (
        ("--against", request.tables.against),
        ("--max-slowdown", limits.slowdown is not None),
        ("--max-memory", limits.memory is not None),
    ):
        if sequential and given:
            raise click.UsageError(
                f"--images auto is for gates that images decide; with {name} give a number"
            )
    if request.data.no_labels and limits.needs_labels:
        raise click.UsageError(
            "a limit on accuracy needs labels, and --no-labels says that there are none; leave one "
            "of the two out"
        )


def _refuse_gate_options(gate: GateRequest) -> None:
    """Of a request without a limit."""
    given = (("--gate-rows", gate.gate_rows), ("--undecided", gate.undecided))
    for name, value in given:
        if value:
            message = f"{name} is about a gate; give a limit, such as --max-top1-drop 0.5"
            raise click.UsageError(message)
