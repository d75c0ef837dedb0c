"""Fixtures that all tests share: small photos made here, an own cache, an own working folder."""

import shutil
import signal

import numpy as np
import pytest
import torch

from tests.support.nets import CLASSES, photo_of
from tests.support.own_cores import keep_to_own_cores
from tests.support.warm import Warm

keep_to_own_cores()
torch.set_num_threads(1)  # the nets are small, so two threads would only wait for each other


# A shell's background job ignores Ctrl-C, and so would every command that a test starts there
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A cache folder instead of the user's; tests of one session share the images in it."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with train/<class>/* and val/<class>/*: 24 and 6 JPEGs per class, of many sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    for split, count in (("train", 24), ("val", 6)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                photo_of(name, rng).save(folder / f"{i:03d}.jpeg", quality=90)
    return root


@pytest.fixture
def photos_copy(photos, tmp_path):
    """A copy of the same folder that a test may change."""
    return shutil.copytree(photos, tmp_path / "photos")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def warm():
    """A process that starts trainings without importing PyTorch again."""
    process = Warm()
    yield process
    process.close()
