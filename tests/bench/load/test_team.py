"""Instances in processes, against the simulated queue with the same time of service."""

import multiprocessing
import time
from dataclasses import replace

import numpy as np
import pytest

from bench.load import team as team_module
from bench.load.measure import Bound, LoadPlan, Subject, between, measure_load
from bench.load.rows import OFFLINE, SERVER, SINGLE, Latencies, answered_times, judge_bound
from bench.load.settings import Placement, placements
from bench.load.team import team
from bench.speed.steady import time_until_steady
from tests.support.known_service import Sleeper
from vgg_deploy.errors import CheckFailed
from vgg_deploy.load_curve.arrivals import poisson_arrivals
from vgg_deploy.load_curve.queueing import simulate_queue

SERVICE = 0.02
LATE = 0.015  # by which a loaded machine may wake a process late, in the median


@pytest.mark.slow
@pytest.mark.parametrize(("servers", "most", "delay"), [(1, 1, 0.0), (2, 1, 0.0), (2, 4, 0.01)])
def test_queries_are_answered_when_the_simulated_queue_says(servers, most, delay):
    """Latencies count from the arrival, however long a query waits for a server."""
    due = poisson_arrivals(0.8 * servers / SERVICE, 60, 1)
    with team("sleeper", Sleeper(SERVICE), Placement(servers, 1), 32) as members:
        members.warm_up((1, most))
        done = members.run(due, most, delay, until=60.0)
    answered = answered_times(due, done)
    expected = simulate_queue(due, lambda count: SERVICE, servers, most, delay)
    assert done.batches[:, 1].sum() == len(due) and done.batches[:, 1].max() <= most
    assert not np.isnan(answered).any()
    # sleeps are never short, so answers are never early, but an early batch may be a smaller one
    if most == 1:
        assert (answered - expected).min() > -0.002
    assert np.median(np.abs(answered - expected)) < LATE


@pytest.mark.slow
def test_an_overloaded_server_ends_and_counts_what_it_dropped():
    """Four times the load that one server can take: it ends in time, about a quarter answered."""
    due = poisson_arrivals(4 / SERVICE, 200, 1)
    with team("sleeper", Sleeper(SERVICE), Placement(1, 1), 32) as members:
        members.warm_up((1,))
        before = time.perf_counter()
        done = members.run(due, 1, 0.0, until=float(due[-1]))
        seconds = time.perf_counter() - before
    answered = answered_times(due, done)
    dropped = int(np.isnan(answered).sum())
    assert seconds < due[-1] + 1
    assert 0.6 * len(due) < dropped < len(due)
    assert np.isnan(answered[-dropped:]).all(), "first come, first served"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("error", "failed with 2 instances of 1 thread (RuntimeError: the device was lost)"),
        ("memory", "failed with 2 instances of 1 thread (memory ran out)"),
        ("killed", "with 2 instances of 1 thread an instance ended with -9"),
        ("hangs", "with 2 instances of 1 thread an instance gave no answer for"),
    ],
)
def test_a_failure_under_load_is_one_sentence_and_ends_all_instances(how, said, monkeypatch):
    monkeypatch.setattr(team_module, "ANSWER_S", 1.0)
    monkeypatch.setattr(team_module, "POLL_S", 0.1)
    due = poisson_arrivals(100.0, 30, 1)
    opened = Sleeper(0.005, fails_at=6, how=how)
    before = set(multiprocessing.active_children())
    with (
        pytest.raises(CheckFailed) as caught,
        team("sleeper", opened, Placement(2, 1), 32) as members,
    ):
        members.warm_up((1,))
        members.run(due, 1, 0.0, until=1.0)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert set(multiprocessing.active_children()) == before


@pytest.fixture(scope="module")
def rows():
    """Everything about a model that takes 20 ms, or 20 ms and 5 ms per image; 2 instances."""
    plan = LoadPlan(
        placements=(Placement(2, 1),),
        batches=(1, 4),
        delay_ms=0.0,
        rates=(),
        bound=Bound(None, 6.0),
        seconds=0.4,
        side=32,
    )
    described = {"model": "sleeper", "runtime": "none", "precision": "fp32"}
    subject = Subject(described, "cpu", lambda threads: Sleeper(SERVICE, 0.005))
    return list(measure_load(subject, plan))


@pytest.mark.slow
def test_the_single_stream_is_what_the_latency_table_measures(rows):
    """Oracle: bench.speed.steady on the same call."""
    row, samples = rows[0]
    assert (row.scenario, row.instances, row.batch) == (SINGLE, 1, 1)
    call = Sleeper(SERVICE, 0.005)()
    timed = time_until_steady(lambda: call(np.zeros((1, 3, 32, 32))), 1.0)
    assert row.latencies.p50_ms == pytest.approx(timed.median_ms, rel=0.15)
    ms = samples.answered_ms - samples.started_ms
    assert row.queries == len(samples) and row.latencies.longest_ms == pytest.approx(ms.max())
    # one call follows the other
    assert (samples.started_ms[1:].to_numpy() >= samples.answered_ms[:-1].to_numpy()).all()


@pytest.mark.slow
def test_offline_throughput_is_images_over_time(rows):
    """At most 2 / 25 ms, and 2 x 4 / 40 ms with batches; a loaded machine makes it less."""
    offline = [row for row, _ in rows if row.scenario == OFFLINE]
    for row, most in zip(offline, (2 / 0.025, 8 / 0.040), strict=True):
        assert 0.5 * most < row.images_per_s <= 1.01 * most
        assert row.images_per_s_low <= row.images_per_s <= row.images_per_s_high
        assert row.mean_batch == row.batch and row.memory_mib > 10


@pytest.mark.slow
def test_the_server_is_measured_around_its_knee(rows):
    server = [(row, samples) for row, samples in rows if row.scenario == SERVER]
    for row, samples in server:
        ms = (samples.answered_ms - samples.due_ms).dropna()
        assert row.latencies.p50_ms == pytest.approx(np.percentile(ms, 50, method="inverted_cdf"))
        assert row.queries == len(samples) == len(ms) + row.dropped
        assert row.bound_ms == pytest.approx(6 * rows[0][0].latencies.p50_ms)
        assert row.within == judge_bound(row.latencies, row.dropped, row.bound_ms)
    for batch in (1, 4):
        own = [row for row, _ in server if row.batch == batch]
        assert len({row.offered_per_s for row in own}) == len(own) >= 3


def test_a_verdict_needs_the_interval():
    found = Latencies(p99_ms=50.0, p99_low_ms=40.0, p99_high_ms=60.0)
    assert judge_bound(found, 0, 61.0) == "yes"
    assert judge_bound(found, 0, 55.0) == judge_bound(found, 0, 45.0) == "not shown"
    assert judge_bound(found, 0, 39.0) == "no"
    assert judge_bound(found, 1, 61.0) == "no"
    few = Latencies(p99_ms=50.0, p99_low_ms=40.0)
    assert judge_bound(few, 0, 1e9) == "not shown"


def test_the_gap_at_the_knee_is_halved(rows):
    (row, _), *_ = [pair for pair in rows if pair[0].scenario == SERVER]

    def at(rate: float, p99: float):

        found = replace(row.latencies, p99_ms=p99)
        return replace(row, offered_per_s=rate, latencies=found, dropped=0)

    assert between([at(10, 1), at(20, 1), at(40, 9)], 5.0) == 30
    assert between([at(10, 9)], 5.0) == 5
    assert between([at(10, 1)], 5.0) is None


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (6, [(1, 6), (1, 4), (3, 2), (6, 1)])],
)
def test_placements_fill_the_cores_and_no_more(cores, expected):
    found = [(one.instances, one.threads) for one in placements(cores)]
    assert found == expected
    assert all(n * threads <= cores < (n + 1) * threads for n, threads in found)


def test_placements_that_are_asked_for():
    assert placements(8, threads=2) == [Placement(4, 2)]
    assert placements(8, instances=(1, 4)) == [Placement(1, 8), Placement(4, 2)]
    assert placements(8, threads=3, instances=(5,)) == [Placement(5, 3)]
