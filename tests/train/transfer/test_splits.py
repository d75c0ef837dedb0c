"""Random splits and held-out images."""

import numpy as np
import pytest

from train.transfer.splits import held_out, held_out_by_class, random_split
from vgg_deploy.errors import InputError

CLASSES = ("a", "b", "c")
LABELS = np.array([0] * 40 + [-1] * 5 + [1] * 100 + [2] * 31)


def test_every_class_has_its_numbers():
    split = random_split(LABELS, CLASSES, 30, 50, (0, 0))
    assert np.bincount(LABELS[split.train]).tolist() == [30, 30, 30]
    assert np.bincount(LABELS[split.test]).tolist() == [10, 50, 1]
    assert not set(split.train) & set(split.test)
    assert (np.diff(split.train) > 0).all() and (np.diff(split.test) > 0).all()


def test_splits_depend_on_the_seed_and_their_number_alone():
    first = random_split(LABELS, CLASSES, 10, 10, (3, 1))
    again = random_split(LABELS, CLASSES, 10, 10, (3, 1))
    assert (first.train == again.train).all() and (first.test == again.test).all()
    for seed in ((3, 0), (4, 1)):
        assert (random_split(LABELS, CLASSES, 10, 10, seed).train != first.train).any()


def test_every_image_is_drawn_as_often():
    """Oracle: the binomial distribution of draws, five standard deviations."""
    draws = 600
    counts = np.zeros(len(LABELS))
    for seed in range(draws):
        counts[random_split(LABELS, CLASSES, 10, 20, (seed, 0)).train] += 1
    for label, size in enumerate((40, 100)):
        p = 10 / size
        deviation = np.sqrt(draws * p * (1 - p))
        assert (abs(counts[label == LABELS] - draws * p) < 5 * deviation).all()
    assert (counts[LABELS < 0] == 0).all()


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(InputError, match="class c has 31 images; 31 for training leave none"):
        random_split(LABELS, CLASSES, 31, 50, (0, 0))


def test_a_fifth_of_each_class_is_held_out():
    labels = np.repeat([0, 1, 2], [30, 2, 7])
    held = held_out_by_class(labels, (0, 1))
    assert np.bincount(labels[held]).tolist() == [6, 1, 1]
    assert (held == held_out_by_class(labels, (0, 1))).all()
    assert (held != held_out_by_class(labels, (0, 2))).any()


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (10, 2), (5011, 1002)])
def test_a_fifth_is_held_out(count, expected):
    held = held_out(count, (0,))
    assert held.sum() == expected and not held.all()
