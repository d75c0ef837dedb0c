"""Measures distance files: a table of their own, reports, and a verdict."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.conclusion import end_with_verdict, publish
from bench.distances.checks import judge_distances
from bench.distances.measure import Measured, Photos, measure_distances
from bench.distances.models import are_distances, open_distance_models
from bench.distances.rows import DistanceRow, Judged, distance_rows, distance_texts, pair_frame
from bench.gate.gate_limits import GateLimits
from bench.report.contents import Findings
from bench.report.gate_text import lines
from bench.report.sections import Section
from bench.report.tables import frame, show, write_frame
from bench.request import BenchRequest, DataRequest
from bench.results.results_folder import Results
from vgg_deploy.command_line import say
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.data.shards import are_shards
from vgg_deploy.data.unlabelled import open_unlabelled
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.net.named_weights import Located
from vgg_deploy.progress import progress

SIDE = 256  # Q without --scales, pixels
PHOTOS = 32  # without --images; each makes 15 pairs


def measures_distances(found: Sequence[Located], request: BenchRequest) -> bool:
    """Whether the files give distances; False for classifiers.

    Args:
        found: The files.
        request: The options.

    Raises:
        InputError: If files of both kinds are named, or options do not fit the kind.
    """
    limits = request.gate.limits
    if not are_distances([file.path for file in found]):
        if limits.of_distances:
            raise InputError(
                "--min-spearman and --max-distance-error judge distance files, and "
                f"{found[0].path} gives no distance; leave them out"
            )
        return False
    if limits.of_classifiers or limits.of_costs:
        raise InputError(
            f"{found[0].path}: gives distances, which are judged by --min-spearman and "
            "--max-distance-error; leave other limits out"
        )
    if limits.of_distances and len(found) * max(1, len(request.models.runtime_names)) < 2:
        raise InputError(
            "a limit compares files with the first; name the reference and at least one more"
        )
    given = _useless_options(request)
    if given:
        raise InputError(
            f"{found[0].path}: gives distances, and {', '.join(given)} is about classifiers; "
            "leave it out"
        )
    return True


def bench_distances(
    request: BenchRequest,
    found: Sequence[Located],
    threads: int,
    environment: dict[str, Any],
    results: Results,
) -> None:
    """Measure, and write tables and reports.

    Args:
        request: The options.
        found: The files.
        threads: Of the runtimes.
        environment: Of `describe_environment`, with the run's id.
        results: Where the files go.

    Raises:
        CheckFailed: For a failed gate, or distances that are not finite.
        Undecided: For a gate without a verdict.
        InputError: For what cannot be used.
    """
    if request.models.verify:
        key = VerifyingKey(request.models.verify)
        for file in found:
            key.verify(file.path)
    paths = [file.path for file in found]
    models = open_distance_models(
        paths, request.models.device, threads, request.models.runtime_names
    )
    sides, dataset = request.tables.sides or (SIDE,), open_photos(request.data)
    say(
        f"{len(models)} distance file{'s' if len(models) > 1 else ''} on {request.models.device}, "
        f"{threads} threads; {len(dataset)} photos of {dataset.root}, 15 distortions of each"
    )
    with progress("pairs", len(dataset)) as bar:
        measured, photos = measure_distances(
            models,
            dataset,
            sides,
            request.data.accuracy_batch,
            request.data.on_error == "skip",
            bar.advance,
        )
    for message in photos.left_out:
        say(f"Left out: {message}", err=True)
    judged = distance_rows(measured, photos)
    findings = Findings([], environment, names=[model.name for model in models])
    findings.distances = _write_tables(judged, measured, photos, results.staging)
    findings.sections += findings.distances
    limits: GateLimits = request.gate.limits
    if limits:
        findings.gate = judge_distances(judged, limits, photos.names, photos.left_out)
    publish(request, findings, results)
    if findings.gate:
        for line in lines(findings.gate):
            say(line)
        end_with_verdict(findings.gate, request.gate.accept_undecided, results)
        return
    for one in judged:
        if not one.is_finite:
            raise CheckFailed(f"{one.row.model}: gives distances that are not finite")


def open_photos(request: DataRequest) -> Dataset:
    """The photos, spread evenly over those that there are.

    Args:
        request: Where they lie, and how many are used; by default PHOTOS.

    Raises:
        InputError: For data that cannot be used.
    """
    count = request.images if isinstance(request.images, int) else PHOTOS
    if request.data is None:
        say("No --data: measuring on the built-in validation images")
        return built_in("val", count)
    if are_shards(request.data) or not Path(request.data).is_dir():
        dataset = open_dataset(request.data, "val", on_error=request.on_error)
    else:
        dataset = open_unlabelled(request.data, request.on_error)
    dataset = replace(dataset, upright=request.exif == "apply")
    line = rotation_line(dataset, "--exif apply turns them upright")
    if line:
        say(line)
    return dataset.subset(count) if count < len(dataset) else dataset


def _write_tables(
    judged: Sequence[Judged], measured: Sequence[Measured], photos: Photos, out: Path
) -> list[Section]:
    """Write distances.csv and distance_pairs.csv."""
    rows: list[DistanceRow] = [one.row for one in judged]
    write_frame(frame(rows), out / "distances.csv")
    write_frame(pair_frame(measured, photos), out / "distance_pairs.csv")
    texts = distance_texts(rows)
    show(texts)
    return [Section(texts, "distances.csv")]


def _useless_options(request: BenchRequest) -> list[str]:
    """Options that were given and mean nothing for distances."""
    tables, models, data, gate = request.tables, request.models, request.data, request.gate
    given = (
        ("--protocols", tables.protocols),
        ("--fuse", tables.fuse),
        ("--paper-tables", tables.paper_tables),
        ("--side-by-side", tables.side_by_side),
        ("--against", tables.against),
        ("--per-layer", tables.per_layer),
        ("--explain", tables.explain),
        ("--cuda-graphs", models.cuda_graphs),
        ("--classes", models.classes),
        ("--mean", models.mean),
        ("--channel-order", models.channel_order),
        ("--crop", models.crop),
        ("--images auto", data.images == "auto"),
        ("--gate-rows", gate.gate_rows),
    )
    return [name for name, value in given if value]
