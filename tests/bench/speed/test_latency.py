"""Latency: the stopping rule on simulated clocks, the interval of a median, the tables."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from bench.cli import main as vgg_bench
from bench.report import figures
from bench.report.table_texts import latency_texts, shapes_line, unsteady_line
from bench.speed import side_by_side
from bench.speed.first_calls import ShapeLog, ShapeRow, cold_start_s
from bench.speed.latency import measure_latency, percentile
from bench.speed.latency_grid import measure_latencies
from bench.speed.side_by_side import measure_side_by_side
from bench.speed.steady import LEAST_S, judge, time_until_steady
from bench.statistics.median import dependence, median_interval, window_medians
from tests.support.nets import save_net, thin_net, thin_spec
from tests.support.run import run
from vgg_deploy.net.open_net import open_net
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import TorchRuntime

DESCRIBED = {"model": "A.pt", "runtime": "torch", "precision": "fp32"}


class FakeRuntime:
    """Calls advance a clock by the milliseconds that a function of their number gives."""

    spec, artifact, threads = thin_spec(), None, 1
    name, precision, device = "torch", "fp32", "cpu"

    def __init__(self, ms_of_call):
        self.ms_of_call, self.calls, self.now = ms_of_call, 0, 100.0

    def clock(self):
        return self.now

    def __call__(self, images):
        self.now += self.ms_of_call(self.calls) / 1000
        self.calls += 1


def measured(ms_of_call, **options):
    fake = FakeRuntime(ms_of_call)
    row, ms, device_ms = measure_latency(fake, DESCRIBED, 32, 1, clock=fake.clock, **options)
    assert len(device_ms) == 0 and row.runs == len(ms)
    return row


def noisy(ms_of_call, sd=0.02):
    """The same times with log-normal noise."""
    factors = np.exp(sd * np.random.default_rng(0).standard_normal(100_000)).tolist()
    return lambda i: ms_of_call(i) * factors[i % len(factors)]


# ---------------------------------------------------------------- the interval of a median


@pytest.mark.parametrize("n", [6, 8, 9, 15, 30, 60, 200])
def test_the_interval_covers_as_the_binomial_distribution_says(n):
    """Oracle: scipy's binomial. The ranks r from below and above hold it with 1 - 2 P(B < r)."""
    low, high = median_interval(np.random.default_rng(n).permutation(np.arange(1.0, n + 1)))
    assert high == n + 1 - low  # values are their own ranks
    assert 1 - 2 * stats.binom.cdf(low - 1, n, 0.5) > 0.93


def test_too_few_values_have_no_interval():
    assert all(math.isnan(end) for end in median_interval(np.arange(5.0)))
    assert median_interval(np.ones(6)) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
def test_dependence_is_the_autocorrelation_time_of_the_sign(rho):
    """Oracle: of a Gaussian AR(1) the sign's autocorrelation is 2/pi asin(rho^k), summed here."""
    lags = np.arange(1, 5000)
    expected = 1 + 2 * np.sum(2 / np.pi * np.arcsin(rho**lags))
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        steps = np.sqrt(1 - rho**2) * rng.standard_normal(20_000)
        value, values = rng.standard_normal(), []
        for step in steps.tolist():
            value = rho * value + step
            values.append(value)
        found.append(dependence(np.exp(values)))
    assert np.median(found) == pytest.approx(expected, rel=0.3)


def test_dependence_of_shuffled_or_equal_values_is_one():
    rng = np.random.default_rng(0)
    factors = [dependence(rng.pareto(1.1, 400)) for _ in range(400)]
    assert np.median(factors) < 1.1 and np.quantile(factors, 0.99) < 3
    assert dependence(np.ones(100)) == 1 and dependence(np.arange(19.0)) == 1


def test_windows_hold_all_values_in_order():
    values = np.arange(100.0)
    assert len(window_medians(values)) == 8 and len(window_medians(values[:5])) == 5
    naive, start = [], 0
    for size in [13] * 4 + [12] * 4:
        naive.append(np.median(values[start : start + size]))
        start += size
    assert window_medians(values).tolist() == naive


# ---------------------------------------------------------------- steady or not


@pytest.mark.parametrize("calls_before", [0, 20, 60, 200, 600])
def test_a_clock_that_falls_is_reported_in_its_new_state(calls_before):
    row = measured(noisy(lambda i: 1.0 if i < calls_before else 1.6))
    assert row.steady and row.median_low_ms < 1.6 < row.median_high_ms
    assert row.median_ms == pytest.approx(1.6, rel=0.005) and row.seconds >= LEAST_S


@pytest.mark.parametrize(
    ("calls_before", "scale"),
    [(60, 5), (60, 50), (60, 100), (60, 300), (1500, 1), (2500, 1), (100, 20)],
)
def test_a_clock_that_falls_is_never_reported_in_its_old_state(calls_before, scale):
    """A slow net and a later change as well: the new state, or unsteady."""
    row = measured(noisy(lambda i: scale * (1.0 if i < calls_before else 1.6)))
    assert not row.steady or row.median_ms == pytest.approx(1.6 * scale, rel=0.01)


@pytest.mark.parametrize(
    ("ms_of_call", "sd", "reason"),
    [
        (lambda i: 1 + i / 3000, 0.005, "% more time than the first"),
        (lambda i: 3 - min(i, 9000) / 4500, 0.005, "% less time than the first"),
        (lambda i: 1 + 0.03 * math.sin(i / 1500), 0.005, "times drift slowly"),
        (lambda i: 100.0, 0.15, "interval is"),
        (lambda i: 700.0, 0.005, "only 35 calls in 24 s"),
    ],
)
def test_a_row_that_is_not_steady_says_why(ms_of_call, sd, reason):
    row = measured(noisy(ms_of_call, sd))
    assert not row.steady and reason in row.unsteady, row.unsteady
    assert 8 * LEAST_S <= row.seconds < 8 * LEAST_S + 1
    texts = latency_texts([row], "")
    shown = dict(zip(texts.heads, texts.rows[0], strict=True))
    assert shown["steady"] == "no" and texts.best is None
    assert f"A.pt at 32 x 32, batch 1 ({row.unsteady})" in unsteady_line([row])


def test_a_long_call_ends_after_five():
    row = measured(lambda i: 6000.0)
    assert row.runs == 5 and not row.steady
    assert math.isnan(row.median_low_ms) and math.isnan(row.median_interval_pct)


def test_steady_times_end_after_the_least_time():
    fake = FakeRuntime(noisy(lambda i: 1.0))
    timed = time_until_steady(lambda: fake(None), 0.5, fake.clock)
    assert timed.steady and timed.seconds == pytest.approx(0.5, abs=0.01)
    assert timed.ms.sum() == pytest.approx(1000 * timed.seconds)
    assert unsteady_line([]) == "All rows are steady."


def test_the_interval_holds_every_windows_median():
    ms = np.random.default_rng(3).lognormal(0, 0.05, 800)
    windows = [np.median(ms[start : start + 100]) for start in range(0, 800, 100)]
    inner_low, inner_high = median_interval(ms)
    timed = judge(ms, 3.0)
    assert timed.low_ms == min(windows) < inner_low < inner_high < max(windows) == timed.high_ms


def test_times_are_judged_at_doubled_times_only(monkeypatch):
    judged_at = []

    def spy(ms, seconds):
        judged_at.append(seconds)
        return judge(ms, seconds)

    monkeypatch.setattr("bench.speed.steady.judge", spy)
    measured(noisy(lambda i: 1.0 if i % 2 else 1.6))
    assert judged_at == pytest.approx([3, 6, 12, 24], abs=0.01)


# ---------------------------------------------------------------- percentiles


@pytest.mark.parametrize(
    ("calls", "p90", "p99"),
    [(49, False, False), (50, True, False), (499, True, False), (500, True, True)],
)
def test_percentiles_need_five_calls_beyond_them(calls, p90, p99):
    ms = np.random.default_rng(0).lognormal(0, 1, calls)
    for percent, given in ((90, p90), (99, p99)):
        found = percentile(ms, percent)
        if given:
            assert found == pytest.approx(stats.scoreatpercentile(ms, percent))
            assert np.sum(ms > found) >= 5
        else:
            assert math.isnan(found)


def test_a_row_of_few_calls_has_dashes():
    row = measured(noisy(lambda i: 80.0))
    texts = latency_texts([row], "")
    shown = dict(zip(texts.heads, texts.rows[0], strict=True))
    assert 64 <= row.runs < 500 and row.steady and texts.best == 0
    assert shown["p99 ms"] == "-" and shown["p90 ms"] == f"{row.p90_ms:.2f}"
    assert shown["steady"] == "yes"
    record = row.record()
    assert pd.isna(record["p99_ms"]) and pd.isna(record["device_p99_ms"])
    assert "device_times" not in record


# ---------------------------------------------------------------- cold and warm


def test_the_first_time_is_given_only_where_it_is_cold(tmp_path):
    runtime = TorchRuntime(open_net(save_net(thin_net("A"), tmp_path / "A.pt")), "cpu", 1)
    again = TorchRuntime(open_net(tmp_path / "A.pt"), "cpu", 1)
    first, _, _ = measure_latency(runtime, DESCRIBED, 32, 1, 0.02)
    second, _, _ = measure_latency(runtime, DESCRIBED, 32, 1, 0.02)
    other, _, _ = measure_latency(runtime, DESCRIBED, 32, 2, 0.02)
    opened_again, _, _ = measure_latency(again, DESCRIBED, 32, 1, 0.02)
    assert first.first_ms > 0 and math.isnan(second.first_ms)
    assert other.first_ms > 0 and opened_again.first_ms > 0
    assert latency_texts([second], "").rows[0][5] == "-"


def test_shapes_that_were_scored_are_warm_for_the_latency_table_and_the_next_log(tmp_path):
    runtime = TorchRuntime(open_net(save_net(thin_net("A"), tmp_path / "A.pt")), "cpu", 1)
    log, later = ShapeLog(runtime), ShapeLog(runtime)
    images = np.zeros((2, 3, 32, 48), np.uint8)
    for _ in range(3):
        log(images)
    later(images)
    (row,), (warm,) = log.rows(DESCRIBED), later.rows(DESCRIBED)
    assert row.first_ms == log.ms[2, 32, 48][0] > 0 and row.warm_calls == 2
    assert row.warm_sd_ms == pytest.approx(abs(np.subtract(*log.ms[2, 32, 48][1:])) / math.sqrt(2))
    assert math.isnan(warm.first_ms) and warm.warm_calls == 1 and warm.warm_median_ms > 0
    log(np.zeros((1, 3, 64, 64), np.uint8))
    measured_row, _, _ = measure_latency(runtime, DESCRIBED, 64, 1, 0.02)
    assert math.isnan(measured_row.first_ms)
    later.merge((log.ms, later.ms))
    assert later.ms[2, 32, 48][0] == row.first_ms and len(later.ms[2, 32, 48]) == 4


def shape_rows(rng, shapes, extra_ms):
    """Rows of calls of 10 ms with 5 % noise; the first takes `extra_ms` longer."""
    rows = []
    for side in range(32, 32 + shapes):
        first, *warm = 10 * np.exp(0.05 * rng.standard_normal(5))
        row = ShapeRow(
            **DESCRIBED,
            batch=1,
            height_px=side,
            width_px=side,
            first_ms=first + extra_ms,
            warm_calls=len(warm),
            warm_median_ms=np.median(warm),
            warm_sd_ms=np.std(warm, ddof=1),
        )
        rows.append(row)
    return rows


def test_first_runs_never_cost_less_than_nothing():
    """Warm first calls are hardly ever reported as cold; a real cost is found within its noise."""
    rng = np.random.default_rng(0)
    costs = [cold_start_s(shape_rows(rng, 30, 0.0)) for _ in range(400)]
    assert not any(cost <= 0 for cost in costs) and np.mean(~np.isnan(costs)) < 0.06
    costs = [cold_start_s(shape_rows(rng, 30, 3.0)) for _ in range(100)]
    assert np.mean(costs) == pytest.approx(0.09, rel=0.05) and not np.isnan(costs).any()
    assert "more than warm ones" in shapes_line(shape_rows(rng, 30, 3.0))
    quiet = shapes_line(shape_rows(rng, 30, -1.0))
    assert quiet.startswith("Input shapes (shapes.csv): A.pt 30 shapes, first runs 0.3 s")
    assert "(" not in quiet[30:]


# ---------------------------------------------------------------- tables, options, simulation


class FakeModel:
    """A model whose calls take no time."""

    name, described = "A.pt", DESCRIBED

    def __init__(self):
        self.runtime = FakeRuntime(noisy(lambda i: 1.0))


def test_samples_carry_the_rows_keys():
    warned = []

    def sides(model):
        return 32, 48

    # the real clock: calls of a fake take no time, so its microseconds are what is measured
    rows, samples = measure_latencies([FakeModel()], sides, (1, 2), warned.append, 0.01)
    assert len(warned) == sum(not row.steady for row in rows)
    for row in rows:
        mine = samples[(samples[list(row.key)] == pd.Series(row.key)).all(axis=1)]
        assert mine.run.tolist() == list(range(row.runs))
        assert mine.ms.median() == pytest.approx(row.median_ms)
    assert len(samples) == sum(row.runs for row in rows)
    drawn = figures.latency(rows, samples).data[0].y
    assert len(drawn) == sum(min(row.runs, 500) for row in rows)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "3s", "", "1e9"])
def test_impossible_seconds_are_refused(text):
    output = run(vgg_bench, "A.pt", "--latency-seconds", text, code=2)
    assert "no number of seconds from 0.01 to 3600" in " ".join(output.split())


def test_the_default_of_the_option_is_that_of_the_rule():
    option = next(o for o in vgg_bench.params if o.name == "latency_seconds")
    assert float(option.default) == LEAST_S


@pytest.mark.slow
def test_simulated_rows_hold_the_true_median(tmp_path, monkeypatch):
    """A short run of the simulation; all steady rows together. The long run is in results/."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import latency_coverage

    args = ["--short", "--out", str(tmp_path)]
    result = CliRunner().invoke(latency_coverage.main, args, catch_exceptions=False)
    assert result.exit_code == 0
    table = pd.read_csv(tmp_path / "latency_coverage.csv")
    steady = table.steady_pct * table.measurements / 100
    covered = (table.coverage_pct / 100 * steady).sum()
    assert steady.sum() > 300 and covered / steady.sum() >= 0.93
    independent = table[table.process == "independent, log-normal, 5 %"].iloc[0]
    assert independent.steady_pct > 90
    changed = table[table.process.str.startswith("1 for")]
    assert len(changed) == 2 and not (changed.worst_error_pct > 2).any()


def test_side_by_side_samples_carry_the_rows_keys(monkeypatch):
    monkeypatch.setattr(side_by_side, "PAUSE_S", 0.0)
    rows, samples = measure_side_by_side([FakeModel(), FakeModel()], lambda model: (32,), (1, 2))
    assert [(row.height_px, row.batch) for row in rows] == [(32, 1), (32, 2)]
    keys = ["model", "runtime", "precision", "height_px", "width_px", "batch"]
    assert list(samples) == [*keys, "round", "ms"]
    rounds = rows[1].rounds  # the calls take microseconds, and may depend on each other
    assert rounds in (30, 60, 90, 120)
    of_batch = samples[samples.batch == 2].ms.to_numpy().reshape(2, rounds)
    assert rows[1].reference_median_ms == pytest.approx(np.median(of_batch[0]))
    assert rows[1].median_ms == pytest.approx(np.median(of_batch[1]))
    assert rows[1].speedup == pytest.approx(np.median(of_batch[0] / of_batch[1]))


class Clock:
    """A clock that only calls of models advance."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        pass


class Taking:
    """A model whose n-th call, warm-up aside, takes so many ms."""

    def __init__(self, clock, ms_of_round):
        self.clock, self.ms_of_round, self.calls = clock, ms_of_round, 0

    def runtime(self, images):
        self.clock.now += self.ms_of_round(self.calls - side_by_side.WARM_UP) / 1000
        self.calls += 1


NOISE = np.random.default_rng(8).normal(0, 0.1, 200)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (lambda i: 1 + NOISE[i], 30),
        (lambda i: 1 + NOISE[i] + (i < 15), 60),  # something else ran for the first 15 rounds
        (lambda i: 1 + 0.1 * i, 120),  # and so it goes on: they are no more than these
    ],
)
def test_rounds_are_added_until_there_is_an_interval(monkeypatch, factor, expected):
    """The same whichever of both models is the faster one."""
    for scale in (0.1, 10.0):
        clock = Clock()
        monkeypatch.setattr(side_by_side, "time", clock)
        models = [Taking(clock, lambda i: 5.0), Taking(clock, lambda i, s=scale: s * factor(i))]
        with progress("in turn", 32) as bar:
            ms = side_by_side.time_rounds(models, 32, 1, bar)
        assert len(ms) == expected and bar.done == bar.total == expected + side_by_side.WARM_UP
        assert ms[:, 1] == pytest.approx([scale * factor(i) for i in range(expected)])
        assert np.isnan(median_interval(ms[:, 0] / ms[:, 1])).any() == (expected == 120)
