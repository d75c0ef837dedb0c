"""Counts, levels and verdicts of a limit, against loops and closed forms."""

import numpy as np
import pytest
from scipy import stats

from export.limit.attempts import Attempt, best_of, level_of, may_go_on, promises
from export.limit.criterion import UNREADABLE, Criterion, Standard, Tally
from vgg_deploy.statistics.paired_test import Table, p_of_at_least

DROP, CHANGES = Criterion(1.0, True), Criterion(1.0, False)


def test_the_levels_of_all_files_stay_below_5_percent():
    assert sum(map(level_of, range(60))) == pytest.approx(0.05) and level_of(0) == 0.04


def test_answers_are_counted_as_a_loop_does():
    rng = np.random.default_rng(0)
    reference, found = rng.integers(0, 4, (2, 300))
    accepted = np.stack([rng.integers(0, 4, 300), rng.integers(-1, 4, 300)], 1)
    skipped = rng.random(300) < 0.1
    reference[skipped] = found[skipped] = UNREADABLE
    lost = won = changed = 0
    for r, f, right, skip in zip(reference, found, accepted.tolist(), skipped, strict=True):
        if not skip:
            lost += r in right and f not in right
            won += f in right and r not in right
            changed += r != f
    seen = int((~skipped).sum())
    assert Standard(reference, accepted).tally(found) == (lost, won, seen)
    assert Standard(reference, None).tally(found) == (changed, 0, seen)
    wrong = sum(
        r not in a for r, a, s in zip(reference, accepted.tolist(), skipped, strict=True) if not s
    )
    assert Standard(reference, accepted).error_pct() == pytest.approx(100 * wrong / seen)
    assert Standard(reference, None).error_pct() is None


def test_scaled_counts_are_rounded_against_the_file():
    assert Tally(1, 1, 3).scaled(10) == (4, 3, 10)
    assert Tally(0, 0, 3).scaled(1000) == (0, 0, 1000)


@pytest.mark.parametrize("criterion", [DROP, CHANGES])
def test_without_a_lost_image_the_closed_form_decides(criterion):
    """All of n images speak for a file that loses 1 % with the chance 0.99^n."""
    least = criterion.least_images(0.04)
    assert 0.99**least <= 0.04 < 0.99 ** (least - 1)
    assert promises(Tally(0, 0, 40), least + 5, criterion)
    assert not promises(Tally(0, 0, 40), least - 5, criterion)


def test_changed_answers_are_the_binomial_test():
    evidence = CHANGES.evidence(Tally(3, 0, 900), 0.008)
    assert evidence.p_pass == pytest.approx(stats.binom.cdf(3, 900, 0.01))
    assert evidence.high == pytest.approx(stats.beta.ppf(1 - 0.008, 4, 897))


@pytest.mark.parametrize("level", [0.04, 0.008, 0.0016])
def test_a_file_proves_its_limit_where_its_bound_is_within(level):
    for lost in range(14):
        tally = Tally(lost, 2, 700)
        attempt = Attempt(frozenset(), tally, DROP.evidence(tally, level), level)
        assert attempt.proves == (attempt.evidence.high <= 0.01)


def test_a_file_beyond_the_limit_is_rarely_called_kept():
    """Simulated at the limit itself, three files after one another: at most 5 % in all."""
    rng = np.random.default_rng(0)
    false, runs = 0, 4000
    for _ in range(runs):
        for attempt in range(3):
            _, lost, won = map(int, rng.multinomial(500, [0.98, 0.015, 0.005]))
            if p_of_at_least(Table(lost, won, 500), DROP.share) <= level_of(attempt):
                false += 1
                break
    assert 40 < false <= stats.binom.ppf(0.999, runs, 0.05)


def test_another_file_is_tried_only_if_it_could_pass():
    assert may_go_on(1, 481, DROP) and not may_go_on(1, 480, DROP)  # ln 0.008 / ln 0.99 = 480.4
    assert not may_go_on(3, 10**6, DROP)


def test_the_best_file_has_the_smallest_loss_for_certain():
    attempts = []
    for lost, level in ((9, 0.04), (2, 0.008), (3, 0.0016)):
        tally = Tally(lost, 0, 500)
        attempts.append(Attempt(frozenset(), tally, DROP.evidence(tally, level), level))
    assert best_of(attempts) is attempts[1]
