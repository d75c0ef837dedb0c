"""Chooses the best setting of a model in each scenario, and says it in a sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.bound import Bound
from bench.load.rows import OFFLINE, SERVER, SINGLE, WITHIN, LoadRow
from vgg_deploy.load_curve.knee import knee


@dataclass(frozen=True)
class Best:
    """The best setting of a model in one scenario.

    Attributes:
        model: Its name.
        scenario: OFFLINE, SINGLE or SERVER.
        result: What it reaches, as a clause.
        setting: Instances, threads and batch; empty if no setting meets the bound.
        options: The setting as options of a command line; empty as before.
        notes: Sentences without their full stops, about what is not shown.
    """

    model: str
    scenario: str
    result: str
    setting: str = ""
    options: str = ""
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """As one line."""
        text = f"{self.model}, {self.scenario}: {self.result}"
        if self.options:
            text += f", with {self.setting}: {self.options}"
        return ". ".join((text, *self.notes))


def best_settings(rows: Sequence[LoadRow], bound: Bound) -> list[Best]:
    """The best setting per model and scenario, with the options that give it.

    Args:
        rows: Of the load table.
        bound: Of p99.
    """
    found: list[Best | None] = []
    for key in dict.fromkeys(_key(row) for row in rows):
        own = [row for row in rows if _key(row) == key]
        found += [_single_stream(own), _offline(own), _server(own, bound)]
    return [best for best in found if best]


def best_offline(rows: Sequence[LoadRow]) -> LoadRow | None:
    """The row with the highest throughput; None if none is offline."""
    offline = [row for row in rows if row.scenario == OFFLINE]
    return max(offline, key=lambda row: row.images_per_s, default=None)


def knees(rows: Sequence[LoadRow]) -> list[LoadRow]:
    """The knee of every setting that has one: the highest load with p99 within the bound.

    Args:
        rows: Of one model.
    """
    found = []
    for setting in dict.fromkeys(row.setting for row in rows if row.scenario == SERVER):
        own = [row for row in rows if row.scenario == SERVER and row.setting == setting]
        point = knee([row.point for row in own], own[0].bound_ms)
        found += [row for row in own if point and row.offered_per_s == point.offered]
    return found


def _key(row: LoadRow) -> tuple[str, str, str]:
    return row.model, row.runtime, row.precision


def _single_stream(rows: Sequence[LoadRow]) -> Best | None:
    single = [row for row in rows if row.scenario == SINGLE]
    if not single:
        return None
    best = min(single, key=lambda row: row.latencies.p90_ms)
    found = best.latencies
    interval = _interval(found.p90_low_ms, found.p90_high_ms)
    result = f"90 % of the images within {found.p90_ms:.4g} ms{interval}"
    return Best(best.model, SINGLE, result, best.setting, best.options)


def _offline(rows: Sequence[LoadRow]) -> Best | None:
    best = best_offline(rows)
    if best is None:
        return None
    equal = [
        row.setting
        for row in rows
        if row.scenario == OFFLINE and row is not best and _may_equal(row, best)
    ]
    notes = (f"Not shown to be slower: {'; '.join(equal)}",) if equal else ()
    interval = _interval(best.images_per_s_low, best.images_per_s_high)
    result = f"{best.images_per_s:.4g} images/s{interval}"
    return Best(best.model, OFFLINE, result, best.setting, best.options, notes)


def _may_equal(row: LoadRow, best: LoadRow) -> bool:
    """Whether the intervals overlap, or one of them is missing."""
    return not row.images_per_s_high < best.images_per_s_low


def _server(rows: Sequence[LoadRow], bound: Bound) -> Best | None:
    server = [row for row in rows if row.scenario == SERVER]
    if not server:
        return None
    limit = f"{server[0].bound_ms:.4g} ms{bound.words}"
    found = knees(rows)
    if not found:
        result = f"at no rate that was measured p99 stays within {limit}"
        return Best(server[0].model, SERVER, result)
    best = max(found, key=lambda row: row.offered_per_s)
    rates = [row.offered_per_s for row in server if row.setting == best.setting]
    result = (
        f"p99 is {best.latencies.p99_ms:.4g} ms{_p99_interval(best)} at "
        f"{best.offered_per_s:.4g} images/s, the highest rate measured within {limit}"
    )
    notes = []
    if best.offered_per_s == max(rates):
        notes.append("No higher rate was measured, so the knee may lie higher")
    if best.within != WITHIN:
        notes.append(doubt(best))
    return Best(best.model, SERVER, result, best.setting, best.options, tuple(notes))


def doubt(row: LoadRow) -> str:
    """Why a p99 within the bound is not shown by its interval."""
    found = row.latencies
    if not found.p99_known:
        needed = found.queries_for_p99 or 0
        seconds = math.ceil(needed / row.offered_per_s)
        return (
            f"That is not shown: {row.queries} queries are too few for an interval of p99; about "
            f"{needed:,} are needed: --load-seconds {seconds}"
        )
    return "That is not shown: the interval of p99 reaches beyond the bound"


def _p99_interval(row: LoadRow) -> str:
    found = row.latencies
    return _interval(found.p99_low_ms, found.p99_high_ms) if found.p99_known else ""


def _interval(low: float, high: float) -> str:
    known = not (math.isnan(low) or math.isnan(high))
    return f" (95 %: {low:.4g} to {high:.4g})" if known else ""
