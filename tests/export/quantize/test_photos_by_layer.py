"""On how many photos a layer is tried alone, against PyTorch's own counter and a search."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from export.quantize.convolve import convolutions_of, multiply_adds
from export.quantize.photos_by_layer import LEAST, WORK, photos_by_layer, spread_order
from tests.support.nets import thin_net

COSTS = {name: 0.8**i for i, name in enumerate("abcdefghij")}


@pytest.mark.parametrize("arch", ["A-LRN", "C"])
def test_the_work_of_layers_is_what_pytorch_counts(arch):
    net = thin_net(arch)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.zeros(1, 3, 75, 49))
    counts = counter.get_flop_counts()
    found = multiply_adds(net, 75, 49)
    assert list(found) == list(convolutions_of(net))
    for name, work in found.items():
        assert 2 * work == sum(counts[f"VGG.{name}"].values())


def test_all_layers_together_cost_what_is_allowed():
    photos = 1000
    counts = photos_by_layer(COSTS, photos)
    work = sum(COSTS[name] * count for name, count in counts.items()) / photos
    assert 0.95 * WORK < work <= WORK
    assert list(counts.values()) == sorted(counts.values())


def test_no_other_numbers_give_a_smaller_variance_for_the_same_work():
    counts = photos_by_layer(COSTS, 10_000)
    least = sum(1 / count for count in counts.values())
    rng = np.random.default_rng(0)
    work = sum(COSTS[name] * count for name, count in counts.items())
    for _ in range(500):
        other = {name: count * rng.uniform(0.7, 1.4) for name, count in counts.items()}
        factor = work / sum(COSTS[name] * count for name, count in other.items())
        assert sum(1 / (factor * count) for count in other.values()) >= 0.9999 * least


@pytest.mark.parametrize("photos", [1, LEAST - 1, LEAST, 20])
def test_few_photos_are_all_used_and_no_layer_has_none(photos):
    counts = photos_by_layer(COSTS, photos).values()
    assert all(min(LEAST, photos) <= count <= photos for count in counts)


@pytest.mark.parametrize("photos", [1, 2, 13, 64])
def test_any_number_of_first_photos_is_spread_over_all(photos):
    ranks = spread_order(photos)
    assert sorted(ranks) == list(range(photos))
    for count in range(2, photos + 1):
        places = np.flatnonzero(ranks < count)
        steps = np.diff([places[-1] - photos, *places])
        assert steps.max() <= 2 * np.ceil(photos / count) + 1
