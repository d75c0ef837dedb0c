"""Chooses the best setting of a model in each scenario, and says it in a sentence."""

import math
from collections.abc import Sequence

from bench.load.bound import Bound
from bench.load.rows import OFFLINE, SERVER, SINGLE, WITHIN, LoadRow
from vgg_deploy.load_curve.knee import knee


def best_lines(rows: Sequence[LoadRow], bound: Bound) -> list[str]:
    """The best setting per model and scenario, with the options that give it.

    Args:
        rows: Of the load table.
        bound: Of p99.
    """
    lines = []
    for key in dict.fromkeys(_key(row) for row in rows):
        own = [row for row in rows if _key(row) == key]
        for line in (_single_line(own), _offline_line(own), _server_line(own, bound)):
            if line:
                lines.append(f"{key[0]}, {line}")
    return lines


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


def _single_line(rows: Sequence[LoadRow]) -> str:
    single = [row for row in rows if row.scenario == SINGLE]
    if not single:
        return ""
    best = min(single, key=lambda row: row.latencies.p90_ms)
    found = best.latencies
    return (
        f"single stream: 90 % of the images within {found.p90_ms:.4g} ms"
        f"{_interval(found.p90_low_ms, found.p90_high_ms)}, with "
        f"{best.placement.words}: {best.options}"
    )


def _offline_line(rows: Sequence[LoadRow]) -> str:
    best = best_offline(rows)
    if best is None:
        return ""
    equal = [
        row.setting
        for row in rows
        if row.scenario == OFFLINE and row is not best and _may_equal(row, best)
    ]
    more = f". Not shown to be slower: {'; '.join(equal)}" if equal else ""
    return (
        f"offline: {best.images_per_s:.4g} images/s"
        f"{_interval(best.images_per_s_low, best.images_per_s_high)}, with "
        f"{best.setting}: {best.options}{more}"
    )


def _may_equal(row: LoadRow, best: LoadRow) -> bool:
    """Whether the intervals overlap, or one of them is missing."""
    return not row.images_per_s_high < best.images_per_s_low


def _server_line(rows: Sequence[LoadRow], bound: Bound) -> str:
    server = [row for row in rows if row.scenario == SERVER]
    if not server:
        return ""
    limit = f"{server[0].bound_ms:.4g} ms{bound.words}"
    found = knees(rows)
    if not found:
        return f"server: at no rate that was measured p99 stays within {limit}"
    best = max(found, key=lambda row: row.offered_per_s)
    rates = [row.offered_per_s for row in server if row.setting == best.setting]
    text = (
        f"server: p99 is {best.latencies.p99_ms:.4g} ms{_p99_interval(best)} at "
        f"{best.offered_per_s:.4g} images/s, the highest rate measured within {limit}, with "
        f"{best.setting}: {best.options}"
    )
    if best.offered_per_s == max(rates):
        text += ". No higher rate was measured, so the knee may lie higher"
    if best.within != WITHIN:
        text += f". {doubt(best)}"
    return text


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
