"""Compares times, memory and sizes of files with an earlier run's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.earlier.old_files import find_file, open_like
from bench.earlier.rows import AgainstRow
from bench.earlier.run import MODEL, EarlierRun, Key
from bench.gate.cost_checks import NotInTurn
from bench.memory.measure import Memory, MemoryRow
from bench.models.files import ModelFile
from bench.models.model import Model, ModelOptions
from bench.results.machine import Machine
from bench.speed.latency import LatencyRow
from bench.speed.turns import Size, Turns, call_in_turn, size_text
from bench.statistics.mean_test import Estimate, difference

NAN = float("nan")
OldRows = Mapping[tuple[object, ...], Mapping[str, Any]]  # by model, side and batch


@dataclass
class Times:
    """Times beside those of an earlier run.

    Attributes:
        rows: Of the table.
        turns: Calls in turn with the earlier file.
        not_in_turn: What could not be called in turn.
        warnings: Sentences about what the comparison does not show.
        new: What the earlier run lacks.
        lost: What only the earlier run has.
    """

    rows: list[AgainstRow] = field(default_factory=list)
    turns: list[Turns] = field(default_factory=list)
    not_in_turn: list[NotInTurn] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def compare_times(
    earlier: EarlierRun,
    models: Sequence[Model],
    files: Sequence[ModelFile],
    latency: Sequence[LatencyRow],
    machine: Machine,
    options: ModelOptions,
) -> Times:
    """Call every model in turn with its earlier file; where that is gone, take both runs' times.

    Args:
        earlier: The earlier run.
        models: Of this run.
        files: Their files, in the same order.
        latency: This run's rows.
        machine: Of this run.
        options: How this run opens files.

    Raises:
        InputError: If a table of the earlier run is damaged, or its file cannot be opened.
    """
    times = Times()
    old_rows = _by_size(earlier.latency)
    for model, file in zip(models, files, strict=True):
        key = Key(file.model, file.runtime, file.precision)
        own = [row for row in latency if (row.model, row.runtime, row.precision) == key]
        if not own:
            continue
        path, reason = _earlier_file(earlier, key, file)
        if path is not None:
            _in_turn(times, earlier, path, model, own, options)
        elif not reason:
            _unchanged(times, earlier, key, file, own)
        else:
            _apart(times, earlier, key, own, old_rows, reason)
    if any(not one.same and one.found is not None for one in times.not_in_turn):
        times.warnings.append(_machine_warning(earlier, machine))
    found = {(*_key(row), row.height_px, row.batch) for row in latency}
    times.lost = [
        f"latency of {Key(*map(str, key[:3])).shown} at {size_text(*_size(key))}"
        for key in old_rows
        if key not in found
    ]
    return times


def _earlier_file(earlier: EarlierRun, key: Key, file: ModelFile) -> tuple[Path | None, str]:
    """The earlier file; or None and why it is not called, empty if nothing has changed."""
    old = earlier.files.get(key)
    if old is None:
        return None, f"{earlier.folder} does not say which file it measured"
    if old.sha256 == file.sha256:
        if old.version == file.version:
            return None, ""
        return None, f"the file is the same, and {key.runtime} {old.version} is not here any more"
    path = find_file(earlier, old)
    if path is None:
        return None, (
            f"the earlier file is neither at {old.path} nor in {earlier.folder} with its SHA-256"
        )
    return path, ""


def _in_turn(
    times: Times,
    earlier: EarlierRun,
    path: Path,
    model: Model,
    own: Sequence[LatencyRow],
    options: ModelOptions,
) -> None:
    sizes: list[Size] = [(row.height_px, row.batch) for row in own]
    turns = call_in_turn(open_like(path, model, options), model, "the earlier file", sizes)
    times.turns += turns
    for one in turns:
        old_ms, new_ms = one.medians
        times.rows.append(
            AgainstRow(
                **model.described,
                measure="latency",
                row=size_text(*one.size),
                unit="ms",
                old=old_ms,
                new=new_ms,
                difference=one.slowdown.value,
                low=one.slowdown.low,
                high=one.slowdown.high,
                difference_unit="%",
                how=f"in turn, {len(one.ms)} rounds",
            )
        )


def _unchanged(
    times: Times, earlier: EarlierRun, key: Key, file: ModelFile, own: Sequence[LatencyRow]
) -> None:
    reason = (
        f"the file is that of {earlier.label} (SHA-256), and so is {file.runtime} {file.version}"
    )
    for row in own:
        where = size_text(row.height_px, row.batch)
        times.not_in_turn.append(NotInTurn(key.model, where, True, reason))
        times.rows.append(
            _time_row(row, NAN, Estimate(0.0, NAN, NAN), "same file and runtime, not called again")
        )


def _apart(
    times: Times,
    earlier: EarlierRun,
    key: Key,
    own: Sequence[LatencyRow],
    old_rows: OldRows,
    reason: str,
) -> None:
    """Take the times of both runs as they are."""
    for row in own:
        where = size_text(row.height_px, row.batch)
        old = old_rows.get((*key, row.height_px, row.batch))
        if old is None or old["device"] != row.device:
            text = f"{earlier.folder} has no time of it on this device to compare with"
            times.not_in_turn.append(NotInTurn(key.model, where, False, text))
            times.new.append(f"latency of {key.shown} at {where}")
            continue
        slower = _slowdown(old, row)
        text = (
            f"takes {slower.value:+.1f} % time by the times of two runs, which decide nothing; "
            f"{reason}"
        )
        times.not_in_turn.append(NotInTurn(key.model, where, False, text, slower.value))
        how = "times of two runs"
        if old["threads"] != row.threads:
            how += f", {old['threads']:.0f} and {row.threads} threads"
        times.rows.append(_time_row(row, old["median_ms"], slower, how))


def _slowdown(old: Mapping[str, Any], row: LatencyRow) -> Estimate:
    """By the medians of two runs, per cent; the interval is of the ratio, by its logarithm."""
    then = (old["median_ms"], old["median_low_ms"], old["median_high_ms"])
    now = (row.median_ms, row.median_low_ms, row.median_high_ms)
    logs = [Estimate(*(math.log(ms) if ms > 0 else NAN for ms in one)) for one in (then, now)]
    return Estimate(*(100 * math.expm1(log) for log in difference(*logs)))


def _time_row(row: LatencyRow, old_ms: float, slower: Estimate, how: str) -> AgainstRow:
    return AgainstRow(
        model=row.model,
        runtime=row.runtime,
        precision=row.precision,
        measure="latency",
        row=size_text(row.height_px, row.batch),
        unit="ms",
        old=old_ms,
        new=row.median_ms,
        difference=slower.value,
        low=slower.low,
        high=slower.high,
        difference_unit="%",
        how=how,
    )


def _machine_warning(earlier: EarlierRun, machine: Machine) -> str:
    differences = machine.differences(earlier.machine)
    if differences:
        return (
            f"times of {earlier.folder} are of another machine ({'; '.join(differences)}): they "
            "show nothing about the file"
        )
    return (
        f"times of {earlier.folder} were measured at another time on a machine of this kind; what "
        "else it did then is not in their intervals"
    )


def compare_memory(earlier: EarlierRun, measured: Sequence[Memory]) -> list[AgainstRow]:
    """Peak memory beside an earlier run's, where both measured the same size.

    Args:
        earlier: The earlier run.
        measured: By this run.

    Raises:
        InputError: If a table of the earlier run is damaged.
    """
    old_rows = _by_size(earlier.memory)
    rows = []
    for row in (row for memory in measured for row in memory.rows):
        old = old_rows.get((*_key(row), row.height_px, row.batch))
        if old is None or old["device"] != row.device:
            continue
        then = Estimate(old["peak_mib"], old["peak_low_mib"], old["peak_high_mib"])
        more = difference(then, Estimate(row.peak_mib, row.peak_low_mib, row.peak_high_mib))
        rows.append(
            AgainstRow(
                *_key(row),
                measure="peak memory",
                row=size_text(row.height_px, row.batch),
                unit="MiB",
                old=then.value,
                new=row.peak_mib,
                difference=more.value,
                low=more.low,
                high=more.high,
                difference_unit="MiB",
                how=f"{row.processes} processes",
            )
        )
    return rows


def compare_sizes(earlier: EarlierRun, files: Sequence[ModelFile]) -> list[AgainstRow]:
    """Sizes of files beside an earlier run's.

    Args:
        earlier: The earlier run.
        files: Of this run.

    Raises:
        InputError: If a table of the earlier run is damaged.
    """
    rows = []
    for file in files:
        key = Key(file.model, file.runtime, file.precision)
        old = earlier.files.get(key)
        if old is None:
            continue
        rows.append(
            AgainstRow(
                *key,
                measure="size",
                row="",
                unit="MB",
                old=old.size_mb,
                new=file.size_mb,
                difference=file.size_mb - old.size_mb,
                low=NAN,
                high=NAN,
                difference_unit="MB",
                how="the same file" if old.sha256 == file.sha256 else "another file",
            )
        )
    return rows


def _by_size(table: pd.DataFrame | None) -> OldRows:
    """Rows by model, side and batch."""
    if table is None:
        return {}
    return {
        (*(row[name] for name in MODEL), int(row["height_px"]), int(row["batch"])): row
        for row in table.dropna(subset=["height_px", "batch"]).to_dict("records")
    }


def _key(row: LatencyRow | MemoryRow) -> Key:
    return Key(row.model, row.runtime, row.precision)


def _size(key: tuple[object, ...]) -> Size:
    side, batch = key[3:]
    return int(str(side)), int(str(batch))
