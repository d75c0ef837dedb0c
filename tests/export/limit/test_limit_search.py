"""The search for layers to keep, against brute force over all subsets."""

import itertools

import numpy as np
import pytest

from export.limit.search import find_layers, safer

NAMES = tuple("abcdefg")


def subsets(names):
    for count in range(len(names) + 1):
        yield from map(frozenset, itertools.combinations(names, count))


def counted(passes):
    tried = []

    def trial(kept):
        tried.append(kept)
        return passes(kept)

    return trial, tried


@pytest.mark.parametrize(
    "needed", list(subsets(NAMES))[:-1], ids=lambda kept: "".join(sorted(kept))
)
def test_exactly_the_needed_layers_are_found_whatever_the_order(needed):
    """Oracle: of all subsets, the smallest that passes."""
    rng = np.random.default_rng(len(needed))
    order = list(rng.permutation(NAMES))
    trial, tried = counted(lambda kept: needed <= kept)
    found = find_layers(lambda: order, dict.fromkeys(NAMES, 1), trial)
    smallest = min((kept for kept in subsets(NAMES) if needed <= kept), key=len)
    if order[-1] in needed:  # the search takes the order's word: the last layer is quantized
        assert not found.passes and found.kept == frozenset(order[:-1])
    else:
        assert found.passes and found.kept == smallest == needed
    assert len(tried) == len(set(tried)) <= 2 * 3 + len(NAMES)


def test_no_layer_is_kept_without_need():
    """Random errors that add up: every layer that is kept is needed, by brute force."""
    optimal = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        errors = dict(zip(NAMES, rng.exponential(1, len(NAMES)), strict=True))
        limit = rng.uniform(0.1, 3)

        def passes(kept, errors=errors, limit=limit):
            return sum(error for name, error in errors.items() if name not in kept) <= limit

        order = sorted(NAMES, key=errors.get, reverse=True)
        found = find_layers(lambda order=order: order, dict.fromkeys(NAMES, 1), passes)
        if not found.passes:
            assert not any(passes(kept) for kept in subsets(NAMES) if len(kept) < len(NAMES))
            continue
        assert passes(found.kept)
        assert not any(passes(found.kept - {name}) for name in found.kept)
        fewest = min(len(kept) for kept in subsets(NAMES) if passes(kept))
        optimal += len(found.kept) == fewest
        assert len(found.kept) == fewest  # the largest errors first is the best for sums
    assert optimal > 150


@pytest.mark.parametrize(("largest", "kept"), [("a", "bc"), ("b", "ac")])
def test_large_layers_are_tried_in_8_bits_first(largest, kept):
    """c is needed, and one of a and b: the larger of them is quantized."""
    sizes = {**dict.fromkeys(NAMES, 1), largest: 9}
    found = find_layers(
        lambda: NAMES, sizes, lambda layers: "c" in layers and bool({"a", "b"} & layers)
    )
    assert found.kept == frozenset(kept)


def test_a_safer_set_keeps_half_of_the_rest():
    assert safer(NAMES, frozenset("c")) == frozenset("cabd")
    assert safer(NAMES, frozenset("abcde")) == frozenset("abcdef")
    assert safer(NAMES, frozenset("abcdef")) is None
