"""Opens what a run measures: models, the rows of the accuracy table, and images."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.accuracy.paper_tables import paper_rows
from bench.accuracy.protocols import Row
from bench.accuracy.selection import select_rows
from bench.gate.gate_limits import GateLimits
from bench.gate.judge import Judge
from bench.gate.method import FIXED, SEQUENTIAL
from bench.gate.row_choice import check_selectors, chosen_rows
from bench.models.foreign_models import class_lists, input_lines
from bench.models.model import Model, ModelOptions, check_sides, open_models, runnable
from bench.models.unverified import unverified_lines
from bench.request import BenchRequest, DataRequest, ModelRequest
from vgg_deploy.command_line import say
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.data.unlabelled import lacks_labels, open_unlabelled
from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import USUAL
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.job import Job
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.newest import newest_exports
from vgg_deploy.predict.whole_images import rescales
from vgg_deploy.runtimes.graph_interface import interface_of

BUILT_IN_IMAGES = 200
PLACES = {"cpu": "the CPU", "cuda": "the GPU"}  # by device, as messages name it
OTHER_DEVICE = {"cpu": "--device cuda where there is a GPU", "cuda": "--device cpu"}


@dataclass(frozen=True)
class Inputs:
    """The request, and what was opened for it."""

    request: BenchRequest
    threads: int  # of each process
    models: list[Model]
    rows: list[Row]  # of the accuracy table

    @property
    def options(self) -> ModelOptions:
        """How the models were opened."""
        return _model_options(self.request.models, self.threads)

    @property
    def judge(self) -> Judge:
        """What the options ask of the gate."""
        request = self.request
        return Judge(
            limits=request.gate.limits,
            rows=chosen_rows(self.rows, request.gate.gate_rows),
            cell_type=request.output.cell_type,
            method=SEQUENTIAL if request.data.images == "auto" else FIXED,
        )


def models_to_measure(request: ModelRequest) -> list[Path | str]:
    """The named files and weights, else those of the newest export that run on this device.

    Raises:
        InputError: If there is no export, or none that runs on this device.
    """
    if request.paths:
        return list(request.paths)
    paths, others = runnable(newest_exports(), request.device)
    say(f"No model named: measuring the newest export, {_joined(paths)}")
    here, add = PLACES[request.device], f"add {OTHER_DEVICE[request.device]}"
    if not paths:
        what = f"none of the newest exports runs on {here} ({_joined(others)})"
        raise InputError(what, f"{add}, or name a model")
    if others:
        say(f"Not on {here}, {add}: {_joined(others)}")
    return [*paths]


def find_models(models: list[Path | str], tell: bool) -> list[Located]:
    """Find the file of each model, and download what is named and not here yet.

    Args:
        models: Paths and names of weights.
        tell: Whether to say which files were found.

    Raises:
        InputError: If one is not found.
    """
    found = [locate(model) for model in models]
    for line in (model.line for model in found):
        if tell and line:
            say(line)
    return found


def _joined(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def open_inputs(request: BenchRequest, threads: int, found: list[Located]) -> Inputs:
    """Open the models, and list the rows of the accuracy table.

    Args:
        request: The options.
        threads: Of each process.
        found: The model files.

    Raises:
        InputError: For a file or an option that cannot be used, or options that do not fit the
            models.
    """
    if request.models.verify:
        key = VerifyingKey(request.models.verify)
        for file in found:
            key.verify(file.path)
    models = _open_models(request, threads, found)
    for line in (*input_lines(models), *unverified_lines(models)):
        say(line)
    if request.tables.side_by_side and len(models) < 2:
        raise InputError(
            "--side-by-side compares with the first model; name at least two, or several "
            "--runtimes or --torch-precision"
        )
    rows = _rows(request, models)
    if request.tables.sides:
        check_sides(models, request.tables.sides)
    if len(models) < 2:
        _refuse_one_model(request.gate.limits, request.tables.against is not None)
    check_selectors(models, rows, request.gate.gate_rows)
    return Inputs(request, threads, models, rows)


def _refuse_one_model(limits: GateLimits, against: bool) -> None:
    """Refuse limits that need something to compare with; `against` is an earlier run."""
    if against and limits.posterior_difference is not None:
        raise InputError(
            "--max-posterior-difference compares models of one command, as no posteriors of an "
            "earlier run are kept; name the reference too, or leave it out"
        )
    if not against and (limits.compares or limits.slowdown is not None):
        raise InputError(
            "a limit compares models with the first; name the reference and at least one more, or "
            "the results of an earlier run with --against"
        )


def _open_models(request: BenchRequest, threads: int, found: list[Located]) -> list[Model]:
    options = _model_options(request.models, threads)
    if request.only_scores:
        options = replace(options, stored=request.output.cells)
    return open_models(found, options, class_lists(request.models.classes, found))


def _model_options(request: ModelRequest, threads: int) -> ModelOptions:
    return ModelOptions(
        device=request.device,
        threads=threads,
        runtimes=request.runtime_names,
        precisions=request.precisions or ("fp32",),
        cuda_graphs=request.cuda_graphs,
        stated=request.stated,
    )


def _rows(request: BenchRequest, models: list[Model]) -> list[Row]:
    tables = request.tables
    unusual = [model.name for model in models if interface_of(model.runtime) != USUAL]
    whole = [model.name for model in models if rescales(model.runtime)]
    if tables.paper_tables and unusual:
        raise InputError(
            f"--paper-tables tests all views at all Q, and {unusual[0]} takes one shape or Q, or "
            "gives logits; name the usual files"
        )
    if request.boxes.boxes_by and whole:
        raise InputError(
            f"--boxes-by looks at rescaled images, and {whole[0]} takes whole ones; name the "
            "weights or a file without --whole-images"
        )
    if tables.paper_tables:
        return list(dict.fromkeys(row for _, row in paper_rows(models)))
    return select_rows(models, tables.protocols, tables.sides, tables.flips, tables.fuse)


def open_images(request: BenchRequest, job: Job) -> Dataset:
    """Open the images of --data, else the built-in ones.

    All processes get the main process's list.

    Args:
        request: The options.
        job: The processes of the run.

    Raises:
        InputError: For data that cannot be used, or that lack the labels that a limit needs.
    """
    if request.data.data is not None:
        return job.on_main(listed_images, request, request.data.data)
    say("No --data: measuring on the built-in validation images")
    # rendered by the main process; the others read its cache, or render on another machine
    return job.main_first(built_in, "val", _count(request.data) or BUILT_IN_IMAGES)


def _count(request: DataRequest) -> int | None:
    """How many images are used; None for all of them, or as many as it takes."""
    return None if request.images == "auto" else request.images


def listed_images(request: BenchRequest, data: str) -> Dataset:
    """Open the images of --data, in this process.

    Args:
        request: The options.
        data: What --data names.

    Raises:
        InputError: As `open_images`.
    """
    dataset = replace(_open_data(request, data), upright=request.data.exif == "apply")
    count = _count(request.data)
    if count and count < len(dataset):
        dataset = dataset.subset(count)
    line = rotation_line(dataset, "--exif apply turns them upright")
    if line:
        say(line)
    return dataset


def _open_data(request: BenchRequest, data: str) -> Dataset:
    """With labels if the images have any."""
    if not (request.data.no_labels or lacks_labels(data)):
        return open_dataset(data, "val", on_error=request.data.on_error)
    if request.gate.limits.needs_labels:
        raise InputError(
            f"{data}: these images have no labels, and a limit on accuracy needs them",
            "use --min-agreement or --max-posterior-difference, or sort the images into class "
            "folders, or put a ground truth and a synset list beside them",
        )
    dataset = open_unlabelled(data, request.data.on_error)
    say("No labels: the models' answers are compared; accuracy stays empty")
    return dataset
