"""Collects the numbers of many runs: one point per run, model, row and measure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

from bench.earlier.run import MODEL, EarlierRun, is_results_folder, open_earlier
from bench.results.machine import Machine
from vgg_deploy.errors import InputError

ERROR, SPEED, SIZE, MEMORY, ENERGY = "top-1 error", "latency", "size", "peak memory", "energy"
UNITS = {ERROR: "%", SPEED: "ms", SIZE: "MB", MEMORY: "MiB", ENERGY: "J/image"}
UNKNOWN = "unknown images"


@dataclass(frozen=True)
class Point:
    """One number of one run. Field names are the columns of history.csv.

    Attributes:
        when: Time of the run, UTC, as ISO 8601.
        run: Its label: the short commit, or the time.
        commit: All digits of its commit; empty if it has none.
        run_id: Of the run.
        folder: Where its results lie.
        measure: One of UNITS.
        model: Name of the model.
        runtime: What ran it.
        precision: Of its arithmetic.
        row: Protocol, scales and flips; or size of the images, device and threads.
        on: What a number is comparable within: a kind of machine, or a set of images.
        value: The number.
        low: Lower end of its 95 % interval; missing where there is none.
        high: Upper end.
        unit: Of the three.
    """

    when: str
    run: str
    commit: str
    run_id: str
    folder: str
    measure: str
    model: str
    runtime: str
    precision: str
    row: str
    on: str
    value: float
    low: float
    high: float
    unit: str


def open_runs(folders: Sequence[Path]) -> list[EarlierRun]:
    """Open the results, the oldest first; a run that lies in two folders counts once.

    Args:
        folders: Of results, or of folders of results.

    Raises:
        InputError: For a folder without results, or a damaged one.
    """
    runs: dict[object, EarlierRun] = {}
    for folder in folders:
        for run in map(open_earlier, _results_in(folder)):
            runs.setdefault(run.run_id or run.folder.resolve(), run)
    return sorted(runs.values(), key=lambda run: (run.when, run.run_id))


def _results_in(folder: Path) -> list[Path]:
    """A folder of results itself, or those inside it."""
    if is_results_folder(folder):
        return [folder]
    try:
        inside = sorted(path for path in folder.iterdir() if is_results_folder(path))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror})", "name a folder of results"
        ) from None
    if not inside:
        raise InputError(
            f"{folder}: holds no results of vgg-bench, and neither do its subfolders",
            "name the folders of earlier --out",
        )
    return inside


def named_machines(machines: Sequence[Machine]) -> dict[Machine, str]:
    """A name for each kind of machine; with what its CPU can do where two have the same.

    Args:
        machines: Of all runs.
    """
    kinds = list(dict.fromkeys(machines))
    shown = [kind.shown for kind in kinds]
    return {
        kind: f"{name} ({' '.join(kind.instructions)})" if shown.count(name) > 1 else name
        for kind, name in zip(kinds, shown, strict=True)
    }


def points_of(run: EarlierRun, machine: str) -> list[Point]:
    """All numbers of one run.

    Args:
        run: The run.
        machine: Name of the kind of machine.

    Raises:
        InputError: If one of its tables is damaged.
    """
    return [*_errors(run), *_speeds(run, machine), *_sizes(run), *_memory(run, machine)]


def _errors(run: EarlierRun) -> Iterator[Point]:
    if run.accuracy is None:
        return
    rows: list[dict[str, Any]] = run.accuracy.to_dict("records")
    for row in rows:
        images = f"{row['images']:.0f} images"
        images += f" {run.data_sha256[:8]}" if run.data_sha256 else f", {UNKNOWN}"
        mirrored = "flips" if row["flips"] else "no flips"
        label = f"{row['protocol']}, Q {row['scales']}, {mirrored}"
        bounds = (row["top1_error_pct"], row["top1_low_pct"], row["top1_high_pct"])
        yield from _point(run, ERROR, row, label, images, bounds)


def _speeds(run: EarlierRun, machine: str) -> Iterator[Point]:
    if run.latency is None:
        return
    rows: list[dict[str, Any]] = run.latency.to_dict("records")
    for row in rows:
        label = _called(row)
        bounds = (row["median_ms"], row["median_low_ms"], row["median_high_ms"])
        yield from _point(run, SPEED, row, label, machine, bounds)
        yield from _point(run, ENERGY, row, label, machine, (row["joules_per_image"], nan, nan))


def _sizes(run: EarlierRun) -> Iterator[Point]:
    for key, file in run.files.items():
        yield from _point(run, SIZE, key._asdict(), "", "", (file.size_mb, nan, nan))


def _memory(run: EarlierRun, machine: str) -> Iterator[Point]:
    if run.memory is None:
        return
    rows: list[dict[str, Any]] = run.memory.to_dict("records")
    for row in rows:
        bounds = (row["peak_mib"], row["peak_low_mib"], row["peak_high_mib"])
        yield from _point(run, MEMORY, row, _called(row), machine, bounds)


def _called(row: Mapping[str, Any]) -> str:
    size = f"{row['height_px']:.0f} x {row['width_px']:.0f}, batch {row['batch']:.0f}"
    return f"{size}, {row['device']}, {row['threads']:.0f} threads"


def _point(
    run: EarlierRun,
    measure: str,
    row: Mapping[str, Any],
    label: str,
    on: str,
    bounds: tuple[float, float, float],
) -> Iterator[Point]:
    """One point, or none where nothing was measured."""
    value, low, high = bounds
    if isnan(value):
        return
    model, runtime, precision = (str(row[name]) for name in MODEL)
    yield Point(
        when=run.when.isoformat(timespec="seconds"),
        run=run.label,
        commit=run.commit.id if run.commit else "",
        run_id=run.run_id,
        folder=str(run.folder),
        measure=measure,
        model=model,
        runtime=runtime,
        precision=precision,
        row=label,
        on=on,
        value=value,
        low=low,
        high=high,
        unit=UNITS[measure],
    )
