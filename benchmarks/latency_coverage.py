"""Measures how often a latency row's 95 % interval contains the true median.

    python benchmarks/latency_coverage.py

Simulated runtimes whose true long-run median is known in closed form: independent, autocorrelated,
heavy-tailed and periodic times, and clocks with two states. Each measurement runs the stopping rule
of vgg-bench itself (bench.speed.steady) on a clock that the simulation drives, so nothing sleeps
and nothing depends on this machine. Two tables: what the rule can detect, and what no rule can
detect that stops after seconds: a state that lasts longer than the measurement.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

import click
import numpy as np
import pandas as pd

from bench.speed.steady import LEAST_S, LONGEST, STEADY_CALLS, Timed, time_until_steady

NOISE = 0.02  # standard deviation of the logarithm of a call's time where a clock changes
FAST, SLOW = 1.0, 1.6  # relative times of the two states
GOAL_PCT = 93.0
NORMAL = NormalDist()

Draw = Callable[[np.random.Generator, int, float], np.ndarray]


@dataclass(frozen=True)
class Process:
    """A runtime: how long its calls take."""

    name: str
    draw: Draw  # generator, calls, ms per call -> (calls,) relative to the time of a call
    median: float  # of the long run, in the same unit


@dataclass(frozen=True)
class Coverage:
    """One process at one time of a call; field names are the columns of latency_coverage.csv."""

    process: str
    call_ms: float
    measurements: int
    steady_pct: float  # of the measurements
    coverage_pct: float  # steady rows whose interval contains the true median; missing without any
    mean_interval_pct: float  # width of steady rows' intervals, of the median
    worst_error_pct: float  # of steady rows' medians, the largest
    mean_seconds: float  # simulated, of all measurements
    beyond: bool  # whether the process has states longer than a measurement


class SimulatedRuntime:
    """Calls that take the times of a process, on a clock that only they advance."""

    def __init__(self, times_s: np.ndarray):
        self.times = iter(times_s.tolist())
        self.now = 0.0

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def call(self) -> None:
        """Let the next call's time pass."""
        self.now += next(self.times)


def log_normal(sd: float) -> Process:
    """Independent times."""
    return Process(
        f"independent, log-normal, {100 * sd:.0f} %",
        lambda rng, calls, call_ms: np.exp(sd * rng.standard_normal(calls)),
        1.0,
    )


def autoregressive(rho: float, sd: float) -> Process:
    """Times whose logarithm is a stationary AR(1); `sd` is that of a single call."""

    def draw(rng: np.random.Generator, calls: int, call_ms: float) -> np.ndarray:
        steps = math.sqrt(1 - rho**2) * rng.standard_normal(calls)
        value = rng.standard_normal()
        values = np.empty(calls)
        for i, step in enumerate(steps.tolist()):
            value = rho * value + step
            values[i] = value
        return np.exp(sd * values)

    return Process(f"AR(1), rho {rho:g}, {100 * sd:.0f} %", draw, 1.0)


def throttled(calls_before: int = 0, seconds_before: float = 0.0) -> Process:
    """A clock that is fast for some calls or seconds, and slow from then on."""

    def draw(rng: np.random.Generator, calls: int, call_ms: float) -> np.ndarray:
        before = calls_before + round(1000 * seconds_before / call_ms)
        state = np.where(np.arange(calls) < before, FAST, SLOW)
        return state * np.exp(NOISE * rng.standard_normal(calls))

    span = f"{calls_before} calls" if calls_before else f"{seconds_before:g} s"
    return Process(f"{FAST:g} for {span}, then {SLOW:g}", draw, SLOW)


def switching(mean_s: float, slow_share: float) -> Process:
    """A clock that changes between two states; times in one are geometrically distributed.

    Args:
        mean_s: seconds in one state, on average over both, if calls were fast ones.
        slow_share: of all calls.
    """

    def draw(rng: np.random.Generator, calls: int, call_ms: float) -> np.ndarray:
        # states shorter than a call: every call is in a state of its own, drawn independently
        independent = 1 / (2 * slow_share * (1 - slow_share))
        mean_calls = max(1000 * mean_s / call_ms, independent)
        state, drawn, slow = np.empty(calls), 0, rng.random() < slow_share
        while drawn < calls:
            share = slow_share if slow else 1 - slow_share
            length = int(rng.geometric(1 / (2 * mean_calls * share)))
            state[drawn : drawn + length] = SLOW if slow else FAST
            drawn += length
            slow = not slow
        return state * np.exp(NOISE * rng.standard_normal(calls))

    return Process(
        f"two states, {100 * slow_share:.0f} % slow, {mean_s:g} s in one",
        draw,
        mixture_median(slow_share),
    )


def mixture_median(slow_share: float) -> float:
    """Where the two log-normal states' distribution function is 1/2, by bisection."""
    low, high = FAST / 2, 2 * SLOW
    for _ in range(80):
        middle = (low + high) / 2
        below = (1 - slow_share) * NORMAL.cdf(math.log(middle / FAST) / NOISE)
        below += slow_share * NORMAL.cdf(math.log(middle / SLOW) / NOISE)
        if below < 0.5:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def heavy_tailed(alpha: float) -> Process:
    """A constant and a Pareto (Lomax) delay, whose mean or variance is infinite."""
    return Process(
        f"heavy tail, alpha {alpha:g}",
        lambda rng, calls, call_ms: 1 + 0.03 * rng.pareto(alpha, calls),
        1 + 0.03 * (2 ** (1 / alpha) - 1),
    )


def hiccups(every: int, length: int, factor: float) -> Process:
    """Of every `every` calls the first `length` take `factor` times as long."""

    def draw(rng: np.random.Generator, calls: int, call_ms: float) -> np.ndarray:
        hit = (np.arange(calls) + rng.integers(every)) % every < length
        return np.where(hit, factor, 1.0) * np.exp(NOISE * rng.standard_normal(calls))

    # slow calls are all above the median, which is a lower quantile of the others
    quantile = 0.5 / (1 - length / every)
    return Process(
        f"hiccups, {length} of {every} calls x {factor:g}",
        draw,
        math.exp(NOISE * NORMAL.inv_cdf(quantile)),
    )


PROCESSES = (
    log_normal(0.05),
    log_normal(0.2),
    autoregressive(0.5, 0.05),
    autoregressive(0.9, 0.05),
    autoregressive(0.98, 0.05),
    autoregressive(0.98, 0.01),
    throttled(calls_before=60),
    throttled(seconds_before=0.6),
    switching(0.05, 0.7),
    switching(0.2, 0.3),
    heavy_tailed(1.2),
    hiccups(10, 1, 5),
    hiccups(100, 10, 2),
)
CALLS_MS = (1.0, 10.0, 100.0)
# states that last for half a second or longer: a measurement may hardly see the other one
BEYOND = (switching(0.5, 0.7), switching(2, 0.7), throttled(seconds_before=6))


def measure(process: Process, call_ms: float, rng: np.random.Generator) -> Timed:
    """One simulated measurement."""
    most = int(LONGEST * LEAST_S * 1000 / call_ms * 1.2) + STEADY_CALLS  # no call is below 0.85
    runtime = SimulatedRuntime(call_ms / 1000 * process.draw(rng, most, call_ms))
    return time_until_steady(runtime.call, LEAST_S, runtime.clock)


def coverage(process: Process, call_ms: float, measurements: int, beyond: bool) -> Coverage:
    """Repeat the measurement with random numbers of its own."""
    rng = np.random.default_rng([int(call_ms), *process.name.encode()])
    truth = process.median * call_ms
    rows = [measure(process, call_ms, rng) for _ in range(measurements)]
    steady = [row for row in rows if row.steady]
    contained = [row.low_ms <= truth <= row.high_ms for row in steady]
    errors = [abs(100 * (row.median_ms / truth - 1)) for row in steady]
    return Coverage(
        process.name,
        call_ms,
        measurements,
        100 * len(steady) / measurements,
        100 * float(np.mean(contained)) if steady else float("nan"),
        float(np.mean([row.interval_pct for row in steady])) if steady else float("nan"),
        max(errors, default=float("nan")),
        float(np.mean([row.seconds for row in rows])),
        beyond,
    )


def text_table(rows: list[Coverage]) -> str:
    """Markdown; a dash where no row was steady."""
    lines = [
        "| process | ms per call | steady % | interval contains the true median % | its width % "
        "| largest error % | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        values = (row.coverage_pct, row.mean_interval_pct, row.worst_error_pct)
        shown = ["-" if math.isnan(value) else f"{value:.1f}" for value in values]
        lines.append(
            f"| {row.process} | {row.call_ms:g} | {row.steady_pct:.1f} | {' | '.join(shown)} "
            f"| {row.mean_seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"


def summary(rows: list[Coverage]) -> str:
    """Of all steady rows together, and the worst of the processes that are steady often enough."""
    steady = sum(row.steady_pct * row.measurements for row in rows) / 100
    contained = sum(
        row.coverage_pct * row.steady_pct * row.measurements for row in rows if row.steady_pct
    )
    often = [row for row in rows if row.steady_pct >= 5]
    worst = min(often, key=lambda row: row.coverage_pct)
    return (
        f"All of these together: {contained / steady / 100:.1f} % of {steady:.0f} steady rows "
        f"contain the true median (goal: {GOAL_PCT:g} % or more). Lowest, where 5 % of the rows or "
        f"more are steady: {worst.coverage_pct:.1f} % ({worst.process}, {worst.call_ms:g} ms per "
        "call)."
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--measurements", default=400, type=click.IntRange(1), help="Of each process and call time."
)
@click.option("--short", is_flag=True, help="A tenth of the measurements, one call time.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(measurements: int, short: bool, out: Path) -> None:
    """Simulate, and write latency_coverage.csv and latency_coverage.md."""
    start = time.perf_counter()
    repeats = max(1, measurements // 10) if short else measurements
    calls_ms = CALLS_MS[1:2] if short else CALLS_MS
    within = [coverage(p, ms, repeats, False) for ms in calls_ms for p in PROCESSES]
    beyond = []
    if not short:
        beyond = [coverage(p, ms, repeats, True) for ms in CALLS_MS[:2] for p in BEYOND]
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([asdict(row) for row in within + beyond])
    table.to_csv(out / "latency_coverage.csv", index=False)
    parts = [
        "# Coverage of the latency table's interval\n",
        f"`python benchmarks/latency_coverage.py`, {repeats} simulated measurements per row. "
        f"Measurements take {LEAST_S:g} to {LONGEST * LEAST_S:g} simulated seconds. Width, error "
        "and coverage are those of steady rows; the other rows are reported as unsteady.\n",
        text_table(within),
        summary(within) + "\n",
    ]
    if beyond:
        parts += [
            "## What a measurement of seconds cannot show\n",
            "These clocks stay in one state for half a second or longer. A measurement that sees "
            'one state only reports that state: "steady" is about the time that was measured.\n',
            text_table(beyond),
        ]
    text = "\n".join(parts)
    (out / "latency_coverage.md").write_text(text)
    print(text)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
