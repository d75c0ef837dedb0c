"""Spearman's correlation against scipy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vgg_deploy.rank_correlation import average_ranks, spearman

ROWS = st.lists(st.tuples(st.integers(-5, 5), st.floats(-1e6, 1e6)), min_size=3, max_size=40)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_as_scipy_with_ties(rows):
    first, second = (np.array(column, float) for column in zip(*rows, strict=True))
    np.testing.assert_array_equal(average_ranks(first), stats.rankdata(first))
    if len(set(first)) > 1 and len(set(second)) > 1:
        expected = stats.spearmanr(first, second).statistic
        assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


def test_nothing_to_rank_gives_nan():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(spearman(np.array([1, np.nan, 2]), np.arange(3.0)))
    assert np.isnan(spearman(np.array([1, np.inf, 2]), np.arange(3.0)))
