"""How often the gate's verdicts are wrong, and how many images they take, by simulation.

    python benchmarks/gate_simulation.py

Draws, for every image, whether only the reference or only the model has it right, with known rates,
and asks the project's own tests for a verdict. Writes gate_simulation.csv and gate_simulation.md.
About 5 minutes on one core; --short for a look.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd

from bench.report.tables import write_frame
from bench.statistics import sequential
from bench.statistics.sequential import SEQUENTIAL_LEVEL, Bets
from vgg_deploy.files import write_text
from vgg_deploy.progress import progress
from vgg_deploy.statistics import paired_test
from vgg_deploy.statistics.evidence import LEVEL, Evidence, Verdict, verdicts
from vgg_deploy.statistics.paired_test import Table

BATCH = 16  # images between two looks
COMMON = 0.8  # share of images on which correlated rows all see the same outcome
FIXED_IMAGES: tuple[int, ...] = (200, 1000, 5000)
LIMIT = 0.005
FLIPS = (0.005, 0.01, 0.02)
LOSSES = (0.0, 0.005, 0.0075, 0.01, 0.02)
Z_1_PCT = 2.3263478740408408


@dataclass(frozen=True)
class Truth:
    """True rates of one row: shares of images that only one of the two models has right."""

    only_reference: float
    only_model: float
    limit: float
    share: bool = False  # a share of images, such as disagreements, instead of a paired loss

    @property
    def loss(self) -> float:
        return self.only_reference - self.only_model

    @property
    def images_of_fixed_test(self) -> int | None:
        """Images with which a fixed-size test errs 1 % on either side (normal approximation)."""
        gap = abs(self.limit - self.loss)
        if gap < 1e-12:
            return None
        variance = self.only_reference + self.only_model - self.loss**2
        if variance == 0:  # no image ever differs: the chance of that, at the limit, must be 1 %
            return math.ceil(math.log(0.01) / math.log(1 - self.limit))
        if self.share:  # at the limit and at the truth the spread differs
            spreads = math.sqrt(self.limit * (1 - self.limit)) + math.sqrt(variance)
            return math.ceil((Z_1_PCT * spreads / gap) ** 2)
        return math.ceil((2 * Z_1_PCT) ** 2 * variance / gap**2)


@dataclass(frozen=True)
class Outcome:
    """One line of the table; shares in per cent of the gates."""

    method: str
    rows: int
    flips_pct: float  # images that only the model has right: the noise of the comparison
    loss_points: float
    limit_points: float
    most_images: int
    gates: int
    pass_pct: float
    fail_pct: float
    undecided_pct: float
    false_pass_pct: float | None  # where a loss exceeds the limit, or lies at it (the worst case)
    false_fail_pct: float | None  # where no loss exceeds the limit
    mean_images: float
    p90_images: float
    fixed_test_images: int | None


def outcome(
    method: str, truths: list[Truth], most: int, found: np.ndarray, images: np.ndarray
) -> Outcome:
    """Args: found, (gates,) of -1 fail, 0 undecided, 1 pass; images, (gates,)."""
    worst = max(truths, key=lambda truth: truth.loss)
    passed, failed = (100 * float((found == sign).mean()) for sign in (1, -1))
    deciding = [worst] if worst.loss > worst.limit else truths  # one row is enough to fail
    fixed = [truth.images_of_fixed_test for truth in deciding]
    known = [images for images in fixed if images is not None]
    return Outcome(
        method=method,
        rows=len(truths),
        flips_pct=100 * worst.only_model,
        loss_points=100 * worst.loss,
        limit_points=100 * worst.limit,
        most_images=most,
        gates=len(found),
        pass_pct=passed,
        fail_pct=failed,
        undecided_pct=100 - passed - failed,
        false_pass_pct=passed if worst.loss >= worst.limit - 1e-12 else None,
        false_fail_pct=failed if worst.loss <= worst.limit + 1e-12 else None,
        mean_images=float(images.mean()),
        p90_images=float(np.quantile(images, 0.9)),
        fixed_test_images=max(known) if len(known) == len(fixed) else None,
    )


def draw(rng: np.random.Generator, truths: list[Truth], gates: int, images: int) -> np.ndarray:
    """(gates, rows, 3): images with a loss of 1, 0 and -1. Rows of one gate are correlated."""
    counts = np.zeros((gates, len(truths), 3), np.int64)
    common = rng.binomial(images, COMMON, gates) if len(truths) > 1 else np.zeros(gates, np.int64)
    same_truth: dict[Truth, np.ndarray] = {}
    for row, truth in enumerate(truths):
        chances = [truth.only_reference, 1 - truth.only_reference - truth.only_model]
        chances.append(truth.only_model)
        if truth not in same_truth:
            same_truth[truth] = rng.multinomial(common, chances)
        counts[:, row] = same_truth[truth] + rng.multinomial(images - common, chances)
    return counts


def p_values(counts: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """p_pass and p_fail of the fixed-size test, (gates, rows) each, every table computed once."""
    tables, which = np.unique(counts.reshape(-1, 3), axis=0, return_inverse=True)
    every = [Table(int(lost), int(won), int(lost + same + won)) for lost, same, won in tables]
    p_pass = np.array([paired_test.p_of_at_least(table, limit) for table in every])
    p_fail = np.array([paired_test.p_of_at_most(table, limit) for table in every])
    return p_pass[which].reshape(counts.shape[:2]), p_fail[which].reshape(counts.shape[:2])


class Boundaries:
    """The fixed-size test of one number of images as a table: which b pass and fail for each c.

    The p-values rise or fall with b, so the last b that passes and the first that fails are found
    by bisection, instead of a test for every simulated table.
    """

    def __init__(self, images: int, limit: float):
        self.images, self.limit = images, limit
        self.known: dict[int, tuple[int, int]] = {}

    def verdicts(self, counts: np.ndarray) -> np.ndarray:
        """(gates,) of -1 fail, 0 undecided, 1 pass. Args: counts, (gates, 3)."""
        lost, won = counts[:, 0], counts[:, 2]
        for c in np.unique(won).tolist():
            if c not in self.known:
                self.known[c] = self._last_pass(c), self._first_fail(c)
        last_pass, first_fail = np.array([self.known[c] for c in won.tolist()]).T
        return np.where(lost <= last_pass, 1, np.where(lost >= first_fail, -1, 0))

    def _last_pass(self, c: int) -> int:
        below, above = -1, self.images - c + 1
        while above - below > 1:
            middle = (below + above) // 2
            table = Table(middle, c, self.images)
            passes = paired_test.p_of_at_least(table, self.limit) <= LEVEL
            below, above = (middle, above) if passes else (below, middle)
        return below

    def _first_fail(self, c: int) -> int:
        below, above = -1, self.images - c + 1
        while above - below > 1:
            middle = (below + above) // 2
            table = Table(middle, c, self.images)
            fails = paired_test.p_of_at_most(table, self.limit) <= LEVEL
            below, above = (below, middle) if fails else (middle, above)
        return above


def holm_fails(p_fail: np.ndarray, level: float) -> np.ndarray:
    """(gates,): whether any row fails, which Holm's first step decides.

    Args: p_fail, (gates, rows).
    """
    return p_fail.min(axis=1) <= level / p_fail.shape[1]


def simulate_sequential(
    rng: np.random.Generator, truths: list[Truth], gates: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gates that look after every batch and stop once they are sure.

    A gate fails as soon as a row fails (by Holm), and passes once all rows pass.

    Returns: (gates,) of -1 fail, 0 undecided, 1 pass; (gates,) images scored.
    """
    found, images = np.zeros(gates, np.int64), np.full(gates, most)
    counts, active = np.zeros((gates, len(truths), 3), np.int64), np.arange(gates)
    against = [_bets(truth) for truth in truths]
    for scored in range(BATCH, most + 1, BATCH):
        counts[active] += draw(rng, truths, len(active), BATCH)
        now = counts[active]
        passes, fails = np.ones(len(active), bool), np.zeros(len(active), bool)
        for row, (for_pass, for_fail) in enumerate(against):
            passes &= _reaches(for_pass, now[:, row], 1 / SEQUENTIAL_LEVEL)
            fails |= _reaches(for_fail, now[:, row], len(truths) / SEQUENTIAL_LEVEL)
        decided = passes | fails
        found[active[decided]] = np.where(fails[decided], -1, 1)
        images[active[decided]] = scored
        active = active[~decided]
        if not len(active):
            break
    return found, images


def _bets(truth: Truth) -> tuple[Bets, Bets]:
    least = 0 if truth.share else -1
    on_small = sequential.bets_on_small_losses(truth.limit)
    return on_small, sequential.bets_on_large_losses(truth.limit, least)


def _reaches(bets: Bets, counts: np.ndarray, wealth: float) -> np.ndarray:
    """(gates,): whether the mean wealth is at least `wealth`. Args: counts, (gates, 3)."""
    each = counts @ bets.log_growth.T
    reached = each.max(axis=1) >= math.log(wealth)  # no mean exceeds the largest
    reached[reached] = sequential.log_wealth(bets, counts[reached]) >= math.log(wealth)
    return reached


def check_against_the_project(rng: np.random.Generator) -> None:
    """Check that the shortcuts give the verdicts of `vgg_deploy.statistics.evidence.verdicts`."""
    boundaries = Boundaries(1000, LIMIT)
    counts = draw(rng, [Truth(0.02, 0.01, LIMIT)] * 3, 60, 1000)
    p_pass, p_fail = p_values(counts, LIMIT)
    for gate in range(len(counts)):
        rows = [
            Evidence(0, 0, 0, float(p), float(q), 1000)
            for p, q in zip(p_pass[gate], p_fail[gate], strict=True)
        ]
        assert (Verdict.FAIL in verdicts(rows)) == holm_fails(p_fail[gate : gate + 1], LEVEL)[0]
        single = {1: Verdict.PASS, 0: Verdict.UNDECIDED, -1: Verdict.FAIL}
        for row in range(3):
            expected = verdicts(rows[row : row + 1])[0]
            assert single[int(boundaries.verdicts(counts[gate, row : row + 1])[0])] == expected
    for lost, same, won in counts[:, 0].tolist():
        found = sequential.paired_evidence_anytime(lost, won, lost + same + won, LIMIT)
        for_pass, for_fail = _bets(Truth(0.02, 0.01, LIMIT))
        for p, bets in ((found.p_pass, for_pass), (found.p_fail, for_fail)):
            reached = _reaches(bets, np.array([[lost, same, won]]), 1 / SEQUENTIAL_LEVEL)
            assert (p <= SEQUENTIAL_LEVEL) == reached[0]


def outcomes(gates: int, most: int, fixed_images: tuple[int, ...]) -> Iterator[Outcome]:
    rng = np.random.default_rng(20260101)
    check_against_the_project(rng)
    paired = [Truth(flips + loss, flips, LIMIT) for loss in LOSSES for flips in FLIPS]
    for images in fixed_images:
        boundaries = Boundaries(images, LIMIT)
        for truth in paired:
            found = boundaries.verdicts(draw(rng, [truth], gates, images)[:, 0])
            yield outcome("fixed", [truth], images, found, np.full(gates, images))
    shares = [Truth(share, 0.0, 0.01, share=True) for share in (0.002, 0.005, 0.01, 0.02)]
    identical = Truth(0.0, 0.0, LIMIT)
    for truth in [identical, *paired, *shares]:
        found, images_used = simulate_sequential(rng, [truth], gates, most)
        method = "sequential, share" if truth.share else "sequential"
        yield outcome(method, [truth], most, found, images_used)
    equal, lossy, at_limit = (Truth(0.005 + loss, 0.005, LIMIT) for loss in (0, 0.02, LIMIT))
    # seven rows at the limit rarely decide: fewer images keep the script short
    for truths, most_of_rows in (
        ([equal] * 7, most),
        ([equal] * 6 + [lossy], most),
        ([at_limit] * 7, most // 5),
    ):
        images = fixed_images[1]
        p_pass, p_fail = p_values(draw(rng, truths, gates, images), LIMIT)
        passes = (p_pass <= LEVEL).all(axis=1)
        for method, fails in (
            ("fixed", holm_fails(p_fail, LEVEL)),
            ("fixed, without Holm", (p_fail <= LEVEL).any(axis=1)),
        ):
            found = np.where(fails, -1, np.where(passes, 1, 0))
            yield outcome(method, truths, images, found, np.full(gates, images))
        found, images_used = simulate_sequential(rng, truths, gates, most_of_rows)
        yield outcome("sequential", truths, most_of_rows, found, images_used)


def explanation(table: pd.DataFrame, command: str) -> str:
    """What the table shows, in words; every number in it comes from the table."""
    gates = int(table.gates.min())
    errors = [100 * math.sqrt(level * (1 - level) / gates) for level in (SEQUENTIAL_LEVEL, LEVEL)]
    fixed, uncorrected = (table[table.method == name] for name in ("fixed", "fixed, without Holm"))
    looking = table[table.method.str.startswith("sequential")]
    most = int(looking.most_images.max())
    equal = looking[(looking.rows == 1) & (looking.loss_points == 0)]
    ratios = equal.fixed_test_images / equal.mean_images
    rows = fixed[fixed.rows > 1]
    sentences = [
        "# The gate's verdicts on simulated models",
        f"`{command}`",
        f"Every line of the table is {gates:,} gates of models whose true rates are known. Flips "
        "are images that only the model has right, in per cent of all; the reference alone has as "
        "many right, and the loss on top. Losses exactly at the limit are the worst case, and "
        "there both errors are counted.",
        f"- **Fixed number of images**, level {LEVEL:.0%} on each side: false pass at most "
        f"{fixed.false_pass_pct.max():.2f} %, false fail at most "
        f"{fixed.false_fail_pct.max():.2f} %.",
        f"- **Sequential**, level {SEQUENTIAL_LEVEL:.0%} on each side, a look after every {BATCH} "
        f"images, at most {most:,} images: false pass at most {looking.false_pass_pct.max():.2f} "
        f"%, false fail at most {looking.false_fail_pct.max():.2f} %.",
        f"- The standard error of a share of 1 % is {errors[0]:.2f} %, of 5 % {errors[1]:.2f} %.",
        f"- Sequential gates of equal models stop after {equal.mean_images.min():,.0f} to "
        f"{equal.mean_images.max():,.0f} images on average, by the number of flips. A test of a "
        "fixed number of images with 1 % errors on both sides (last column, normal approximation) "
        f"needs {ratios.min():.2f} to {ratios.max():.2f} times as many.",
        f"- **{int(rows.rows.max())} rows** that share {COMMON:.0%} of their outcomes: with Holm's "
        f"correction at most {rows.false_fail_pct.max():.2f} % of the gates fail falsely, without "
        f"it up to {uncorrected.false_fail_pct.max():.2f} %.",
        "Sequential gates are undecided where the loss is so near the limit that the images run "
        "out. The columns of false verdicts are empty where the verdict would be right.",
    ]
    return (
        "\n\n".join(sentences).replace("\n\n- ", "\n- ").replace("counted.\n-", "counted.\n\n-")
        + "\n"
    )


def in_markdown(table: pd.DataFrame) -> str:
    heads = {
        "method": "method",
        "rows": "rows",
        "flips_pct": "flips %",
        "loss_points": "loss, points",
        "limit_points": "limit",
        "most_images": "images at most",
        "pass_pct": "pass %",
        "fail_pct": "fail %",
        "undecided_pct": "undecided %",
        "false_pass_pct": "false pass %",
        "false_fail_pct": "false fail %",
        "mean_images": "mean images",
        "p90_images": "90th percentile",
        "fixed_test_images": "fixed-size test, 1 % errors",
    }
    lines = [list(heads.values()), ["---:" if i else "---" for i in range(len(heads))]]
    for row in table[list(heads)].to_dict("records"):
        lines.append([_cell(name, value) for name, value in row.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(name: str, value: str | float | None) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return ""
    if name.endswith("images"):
        return f"{value:,.0f}"
    return f"{value:.2f}" if name in SHARES else f"{value:g}"


SHARES = ("pass_pct", "fail_pct", "undecided_pct", "false_pass_pct", "false_fail_pct")


@click.command(context_settings={"show_default": True})
@click.option("--gates", default=20_000, help="Simulated gates a line.")
@click.option("--short", is_flag=True, help="300 gates and at most 3,200 images, to see it run.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(gates: int, short: bool, out: Path) -> None:
    """Simulate the gate's verdicts on models whose true loss is known."""
    command = "python benchmarks/gate_simulation.py"
    most, fixed_images = 50_000, FIXED_IMAGES
    if short:
        command, gates, most, fixed_images = f"{command} --short", 300, 3200, (100, 200)
    records = []
    lines = len(fixed_images) * len(LOSSES) * len(FLIPS) + 1 + len(LOSSES) * len(FLIPS) + 4 + 9
    with progress("simulating gates", lines) as bar:
        for found in outcomes(gates, most, fixed_images):
            records.append(asdict(found))
            bar.advance()
    table = pd.DataFrame(records)
    out.mkdir(parents=True, exist_ok=True)
    write_frame(table, out / "gate_simulation.csv")
    text = explanation(table, command) + "\n" + in_markdown(table)
    write_text(out / "gate_simulation.md", text)
    print(text)


if __name__ == "__main__":
    main()
