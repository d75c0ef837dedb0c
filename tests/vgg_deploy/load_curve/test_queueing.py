"""A simulated queue against closed forms, and the rule by which batches form."""

import math

import numpy as np
import pytest

from vgg_deploy.load_curve.arrivals import even_arrivals, poisson_arrivals
from vgg_deploy.load_curve.queueing import next_batch, simulate_queue

SERVICE = 0.01


def mean_wait(load: float, servers: int = 1, seed: int = 1, queries: int = 150_000) -> float:
    """Seconds before service, of a queue with a fixed time of service."""
    due = poisson_arrivals(load * servers / SERVICE, queries, seed)
    answered = simulate_queue(due, lambda count: SERVICE, servers)
    return float((answered - due).mean() - SERVICE)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(load):
    """M/D/1: rho s / (2 (1 - rho))."""
    expected = load * SERVICE / (2 * (1 - load))
    assert mean_wait(load) == pytest.approx(expected, rel=0.05)


def test_the_whole_distribution_of_a_light_queue():
    """M/D/1: a query need not wait with the chance 1 - rho; within one service Erlang's e^(rho t).

    Erlang 1909: P(wait <= t) = (1 - rho) e^(rho t / s) for t up to s.
    """
    load = 0.6
    due = poisson_arrivals(load / SERVICE, 100_000, 2)
    wait = simulate_queue(due, lambda count: SERVICE) - due - SERVICE
    for share in (0.0, 0.5, 0.99):
        expected = (1 - load) * math.exp(load * share)
        assert (wait <= share * SERVICE + 1e-9).mean() == pytest.approx(expected, abs=0.01)


def test_several_servers_with_random_service_wait_by_erlangs_formula():
    """M/M/2: C / (2 mu - lambda), with Erlang's C = 2 rho^2 / (1 + rho) for two servers."""
    rng, load, rate = np.random.default_rng(3), 0.7, 100.0
    due = poisson_arrivals(2 * load * rate, 100_000, 4)
    service = rng.exponential(1 / rate, len(due))
    times = iter(service)
    answered = simulate_queue(due, lambda count: next(times), servers=2)
    expected = 2 * load**2 / (1 + load) / (2 * rate - 2 * load * rate)
    assert (answered - due - service).mean() == pytest.approx(expected, rel=0.06)


def test_a_queue_by_hand():
    """Two servers, 3 s of service, one query each second: they start at 0, 1, 3, 4, 6."""
    answered = simulate_queue(even_arrivals(1.0, 5), lambda count: 3.0, servers=2)
    assert answered.tolist() == [3, 4, 6, 7, 9]


@pytest.mark.parametrize(
    ("now", "most", "delay", "expected"),
    [
        (0.0, 1, 9.0, (1.0, 1)),  # a batch of one is full when its query arrives
        (0.0, 4, 0.0, (1.0, 1)),  # without delay nobody waits for others
        (0.0, 4, 0.5, (1.5, 2)),  # queries at 1.0 and 1.4
        (0.0, 3, 9.0, (2.0, 3)),  # full before the delay is over
        (5.0, 2, 0.5, (5.0, 2)),  # a late server takes what is there
        (5.0, 9, 0.5, (5.0, 4)),
        (0.0, 9, 99.0, (100.0, 4)),  # never full: the delay ends it
    ],
)
def test_batches_close_when_full_or_late(now, most, delay, expected):
    due = np.array([1.0, 1.4, 2.0, 3.0])
    assert next_batch(due, 0, now, most, delay) == expected


def test_every_query_is_answered_once_in_batches():
    due = poisson_arrivals(500.0, 2_000, 5)
    sizes = []

    def service(count: int) -> float:
        sizes.append(count)
        return 0.004 + 0.001 * count

    answered = simulate_queue(due, service, servers=2, most=8, delay=0.003)
    assert sum(sizes) == len(due) and max(sizes) == 8 and min(sizes) >= 1
    assert (answered - due >= 0.005 - 1e-12).all()
