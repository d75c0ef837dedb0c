"""Measures one model under load: every setting, offline, single stream and as a server.

The scenarios are those of MLPerf Inference. Offline: all images are there at the start; the result
is images per second. Single stream: one image after the other, in one instance; the result is the
90th percentile of the latency. Server: images arrive one by one as a Poisson process; the result is
the highest rate at which the 99th percentile of the latency stays within a bound.

Source:
    Reddi et al., "MLPerf Inference Benchmark", ISCA 2020.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.load.bound import Bound
from bench.load.instance import Call, Done
from bench.load.rows import (
    NAN,
    OFFLINE,
    SERVER,
    SINGLE,
    LoadRow,
    answered_times,
    judge_bound,
    latencies_of,
    server_latencies,
    throughput,
)
from bench.load.settings import Placement
from bench.load.team import Team, team
from vgg_deploy.load_curve.arrivals import poisson_arrivals
from vgg_deploy.load_curve.knee import knee
from vgg_deploy.name_frames import named_frame

SEED = 0  # of the arrivals: every setting sees the same, at its own pace
SHARES = (0.2, 0.4, 0.6, 0.75, 0.9, 1.1)  # of the offline throughput, as arrival rates
HALVINGS = 2  # of the gap between the last rate within the bound and the first one beyond it
GRACE = 1.0  # times the time of the arrivals, for the answers to the queries that still wait
ENOUGH = 1.5  # times the images that the warm calls promise are offered offline
MOST_QUERIES = 2_000_000  # of one measurement


@dataclass(frozen=True)
class LoadPlan:
    """What is measured.

    Attributes:
        placements: Instances and threads.
        batches: Largest batch sizes.
        delay_ms: That a batch waits to fill at most.
        rates: Images per second that arrive; empty to look for the knee.
        bound: Of p99.
        seconds: Of one measurement.
        side: Of the images, pixels.
    """

    placements: tuple[Placement, ...]
    batches: tuple[int, ...]
    delay_ms: float
    rates: tuple[float, ...]
    bound: Bound
    seconds: float
    side: int


@dataclass(frozen=True)
class Subject:
    """A model under load.

    Attributes:
        described: Columns model, runtime and precision.
        device: "cpu" or "cuda".
        open_with: Opens it with so many threads; what it returns is pickled.
    """

    described: dict[str, str]
    device: str
    open_with: Callable[[int], Callable[[], Call]]

    @property
    def name(self) -> str:
        """Of the model."""
        return self.described["model"]


Measured = tuple[LoadRow, pd.DataFrame | None]  # with the queries of the server and the stream


def measure_load(subject: Subject, plan: LoadPlan) -> Iterator[Measured]:
    """Measure every setting.

    The first placement's single stream comes first: the bound may be a multiple of its median.

    Args:
        subject: The model.
        plan: What is measured.

    Yields:
        Rows as they are ready, with the times of their queries.

    Raises:
        CheckFailed: If the model fails under load.
    """
    bound_ms = NAN
    streams: set[int] = set()  # numbers of threads that have been measured as a single stream
    for placement in plan.placements:
        opener = subject.open_with(placement.threads)
        with team(subject.name, opener, placement, plan.side) as members:
            run = _Run(subject, plan, members)
            if placement.threads not in streams:
                streams.add(placement.threads)
                row, samples = run.single_stream()
                if math.isnan(bound_ms):
                    bound_ms = plan.bound.of(row.latencies.p50_ms)
                yield row, samples
            for batch in plan.batches:
                offline = run.offline(batch)
                yield offline, None
                yield from run.server(batch, offline.images_per_s, bound_ms)


@dataclass(frozen=True)
class _Run:
    """The scenarios of one placement."""

    subject: Subject
    plan: LoadPlan
    members: Team

    def single_stream(self) -> Measured:
        """One image after the other, in one instance."""
        plan = self.plan
        warm_s = self.members.warm_up((1,), 1)
        done = self.members.run(_at_once(plan.seconds, warm_s, 1), 1, 0.0, plan.seconds, 1)
        starts, ends = done.batches[:, 2], done.batches[:, 3]
        row = self._row(SINGLE, 1, done, Placement(1, self.members.placement.threads))
        row = replace(row, latencies=latencies_of(1000 * (ends - starts)))
        return row, _samples(row, starts, starts, ends)

    def offline(self, batch: int) -> LoadRow:
        """All images are there at the start."""
        plan = self.plan
        warm_s = self.members.warm_up(_sizes(batch, self.subject.device))
        count = batch * self.members.placement.instances
        due = _at_once(plan.seconds, warm_s, count)
        done = self.members.run(due, batch, 0.0, plan.seconds)
        return self._row(OFFLINE, batch, done, self.members.placement)

    def server(self, batch: int, most_per_s: float, bound_ms: float) -> Iterator[Measured]:
        """Images arrive one by one: at the stated rates, or around the knee."""
        if self.plan.rates:
            for rate in self.plan.rates:
                yield self._at_rate(rate, batch, bound_ms)
            return
        rows: list[LoadRow] = []
        for share in SHARES:
            row, samples = self._at_rate(share * most_per_s, batch, bound_ms)
            yield row, samples
            rows.append(row)
            if knee([row.point], bound_ms) is None:
                break
        for _ in range(HALVINGS):
            middle = between(rows, bound_ms)
            if middle is None:
                return
            row, samples = self._at_rate(middle, batch, bound_ms)
            yield row, samples
            rows.append(row)

    def _at_rate(self, rate: float, batch: int, bound_ms: float) -> Measured:
        """One load of the server."""
        plan = self.plan
        count = min(MOST_QUERIES, max(1, round(rate * plan.seconds)))
        due = poisson_arrivals(rate, count, SEED)
        until = float(due[-1]) + GRACE * plan.seconds
        delay = plan.delay_ms / 1000 if batch > 1 else 0.0
        done = self.members.run(due, batch, delay, until)
        answered = answered_times(due, done)
        dropped = int(np.isnan(answered).sum())
        found = server_latencies(due, answered)
        row = replace(
            self._row(SERVER, batch, done, self.members.placement),
            offered_per_s=rate,
            queries=count,
            dropped=dropped,
            latencies=found,
            bound_ms=bound_ms,
            within=judge_bound(found, dropped, bound_ms),
        )
        started = answered_times(due, replace(done, batches=done.batches[:, (0, 1, 2, 2)]))
        return row, _samples(row, due, started, answered)

    def _row(self, scenario: str, batch: int, done: Done, placement: Placement) -> LoadRow:
        """What all scenarios have."""
        batches = done.batches
        images = int(batches[:, 1].sum())
        found = throughput(batches, placement.instances)
        never_idle = scenario != SERVER
        return LoadRow(
            model=self.subject.described["model"],
            runtime=self.subject.described["runtime"],
            precision=self.subject.described["precision"],
            device=self.subject.device,
            scenario=scenario,
            instances=placement.instances,
            threads=placement.threads,
            height_px=self.plan.side,
            width_px=self.plan.side,
            batch=batch,
            delay_ms=self.plan.delay_ms if scenario == SERVER and batch > 1 else 0.0,
            offered_per_s=NAN,
            queries=images,
            dropped=0,
            seconds=float(batches[:, 3].max()),
            images_per_s=found.value,
            images_per_s_low=found.low if never_idle else NAN,
            images_per_s_high=found.high if never_idle else NAN,
            mean_batch=images / len(batches),
            memory_mib=done.memory_mib,
        )


def between(rows: list[LoadRow], bound_ms: float) -> float | None:
    """The rate in the middle between the knee and the next rate above it.

    Args:
        rows: Of one setting, at different rates, at least one.
        bound_ms: Of p99.

    Returns:
        Half of the lowest rate if none is within the bound; None if all are.
    """
    last = knee([row.point for row in rows], bound_ms)
    below = last.offered if last else 0.0
    above = [row.offered_per_s for row in rows if row.offered_per_s > below]
    return (below + min(above)) / 2 if above else None


def _at_once(seconds: float, warm_s: float, count: int) -> np.ndarray:
    """Queries that are all there at the start, more than can be answered in the time."""
    calls = math.ceil(ENOUGH * seconds / max(warm_s, 1e-6)) + 1
    return np.zeros(min(MOST_QUERIES, calls * count))


def _sizes(batch: int, device: str) -> tuple[int, ...]:
    """Batch sizes to call before the timing; a GPU's runtimes prepare every shape at its first."""
    if device == "cuda":
        return tuple(range(1, batch + 1))
    return tuple(sorted({*(2**k for k in range(batch.bit_length()) if 2**k < batch), batch}))


def _samples(
    row: LoadRow, due: np.ndarray, started: np.ndarray, answered: np.ndarray
) -> pd.DataFrame:
    """The times of single queries, in ms after the start."""
    names = ("model", "runtime", "precision", "scenario", "instances", "threads", "batch")
    key = {name: getattr(row, name) for name in (*names, "offered_per_s")}
    times = {"due_ms": 1000 * due, "started_ms": 1000 * started, "answered_ms": 1000 * answered}
    return named_frame({**key, "query": np.arange(len(due)), **times})
