"""Nets and photos that several tests of the bench use."""

import numpy as np
import pytest

from tests.support.nets import CLASSES, photo_of, save_net, thin_net


@pytest.fixture
def net(tmp_path):
    return save_net(thin_net("A"), tmp_path / "A.pt")


@pytest.fixture
def many(tmp_path):
    """A net that is slow enough to be interrupted, and 400 images."""
    rng = np.random.default_rng(0)
    for i in range(400):
        path = tmp_path / "many" / "val" / CLASSES[i % 4] / f"{i:03d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo_of(CLASSES[i % 4], rng).save(path)
    return save_net(thin_net("D", width=1 / 4), tmp_path / "D.pt"), tmp_path / "many"
