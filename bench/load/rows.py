"""The rows of the load table: what one scenario shows about one setting of one model."""

import math
from dataclasses import asdict, dataclass, field

import numpy as np

from bench.load.instance import Done
from bench.load.settings import Placement
from bench.statistics import student
from bench.statistics.percentile_interval import Percentile, percentile
from vgg_deploy.load_curve.measures import LoadPoint

OFFLINE, SINGLE, SERVER = "offline", "single stream", "server"  # MLPerf's scenarios
BLOCKS = 10  # of consecutive calls, whose means show how sure a throughput is
FEWEST_CALLS = 2 * BLOCKS  # with fewer a throughput has no interval
NAN = float("nan")
WITHIN, OVER, UNSURE = "yes", "no", "not shown"


@dataclass(frozen=True)
class Latencies:
    """Percentiles of latencies, in ms, each with its 95 % interval."""

    p50_ms: float = NAN
    p50_low_ms: float = NAN
    p50_high_ms: float = NAN
    p90_ms: float = NAN
    p90_low_ms: float = NAN
    p90_high_ms: float = NAN
    p99_ms: float = NAN
    p99_low_ms: float = NAN
    p99_high_ms: float = NAN
    longest_ms: float = NAN
    queries_for_p99: int | None = None  # that an interval of p99 needs

    @property
    def p99_known(self) -> bool:
        """Whether there are enough queries for an interval of p99."""
        return not math.isnan(self.p99_high_ms)


@dataclass(frozen=True)
class LoadRow:
    """One scenario, setting and load. Field names are the columns of load.csv."""

    model: str
    runtime: str
    precision: str
    device: str
    scenario: str  # OFFLINE, SINGLE, SERVER
    instances: int
    threads: int  # of each instance
    height_px: int
    width_px: int
    batch: int  # largest
    delay_ms: float  # that a batch waits to fill at most
    offered_per_s: float  # images per second that arrive; missing but for the server
    queries: int  # that were answered or dropped
    dropped: int  # not started before the time was over
    seconds: float  # until the last answer
    images_per_s: float
    images_per_s_low: float  # 95 % interval; missing for fewer than FEWEST_CALLS calls
    images_per_s_high: float
    mean_batch: float
    latencies: Latencies = field(default_factory=Latencies)  # missing offline
    bound_ms: float = NAN  # that p99 is to stay within; missing but for the server
    within: str = ""  # whether it does: WITHIN, OVER or UNSURE
    memory_mib: float = NAN  # of all instances

    @property
    def placement(self) -> Placement:
        """Instances and threads."""
        return Placement(self.instances, self.threads)

    @property
    def setting(self) -> str:
        """Placement and batch, for people."""
        return f"{self.placement.words}, batch {self.batch}"

    @property
    def options(self) -> str:
        """The setting as options of a command line."""
        delay = f" --batch-delay {self.delay_ms:g}" if self.delay_ms else ""
        return f"{self.placement.options} --batch-sizes {self.batch}{delay}"

    @property
    def point(self) -> LoadPoint:
        """The load as `vgg_deploy.load_curve` judges it."""
        found = self.latencies
        return LoadPoint(
            self.offered_per_s,
            self.queries,
            self.dropped,
            self.images_per_s,
            found.p50_ms,
            found.p99_ms,
            found.longest_ms,
        )

    def record(self) -> dict[str, object]:
        """The row by column of load.csv."""
        columns = asdict(self)
        found = columns.pop("latencies")
        if found["queries_for_p99"] is None:
            found["queries_for_p99"] = NAN
        last = {name: columns.pop(name) for name in ("bound_ms", "within", "memory_mib")}
        return {**columns, **found, **last}


@dataclass(frozen=True)
class Throughput:
    """Images per second, and their 95 % interval; NaN for fewer than FEWEST_CALLS calls."""

    value: float
    low: float
    high: float


def throughput(batches: np.ndarray, instances: int) -> Throughput:
    """Compute the throughput of instances that are never idle.

    The value is MLPerf's: all images over the time to the last answer. The interval is that of the
    mean time per image, by Student's t over blocks of consecutive calls.

    Args:
        batches: (B, 4), as of `Done`.
        instances: That worked.
    """
    counts, starts, ends = batches[:, 1], batches[:, 2], batches[:, 3]
    value = float(counts.sum() / ends.max())
    if len(batches) < FEWEST_CALLS:
        return Throughput(value, NAN, NAN)
    blocks = np.array_split((ends - starts) / counts, BLOCKS)
    means = np.array([block.mean() for block in blocks]) / instances
    reach = student.quantile(0.975, BLOCKS - 1) * means.std(ddof=1) / math.sqrt(BLOCKS)
    slowest, fastest = means.mean() + reach, max(means.mean() - reach, 1e-12)
    # the mean call leaves out the waits at the start and the end, which the value has
    return Throughput(value, min(value, float(1 / slowest)), max(value, float(1 / fastest)))


def answered_times(due: np.ndarray, done: Done) -> np.ndarray:
    """When each query was answered.

    Args:
        due: (N,) seconds.
        done: What the instances did.

    Returns:
        (N,) float64 seconds; NaN for queries that were dropped.
    """
    answered = np.full(len(due), NAN)
    for first, count, _, end in done.batches:
        answered[int(first) : int(first + count)] = end
    return answered


def latencies_of(ms: np.ndarray) -> Latencies:
    """Percentiles with intervals.

    Args:
        ms: (N,) latencies in the order of the queries, at least one.
    """
    p50, p90, p99 = (percentile(ms, percent) for percent in (50, 90, 99))
    return Latencies(
        *_three(p50), *_three(p90), *_three(p99), float(ms.max()), queries_for_p99=p99.needed
    )


def judge_bound(found: Latencies, dropped: int, bound_ms: float) -> str:
    """Whether p99 stays within a bound, as far as the queries show it.

    Args:
        found: The latencies.
        dropped: Queries without an answer: then it does not.
        bound_ms: The bound.
    """
    if dropped or found.p99_low_ms > bound_ms:
        return OVER
    return WITHIN if found.p99_high_ms <= bound_ms else UNSURE


def server_latencies(due: np.ndarray, answered: np.ndarray) -> Latencies:
    """Latencies of the queries that were answered, from their arrival.

    Args:
        due: (N,) seconds.
        answered: (N,) seconds, NaN for dropped queries.
    """
    there = ~np.isnan(answered)
    return latencies_of(1000 * (answered - due)[there]) if there.any() else Latencies()


def _three(found: Percentile) -> tuple[float, float, float]:
    return found.value, found.low, found.high
