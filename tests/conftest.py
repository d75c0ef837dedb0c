"""Small nets and small pictures, made here: no test needs a download or a file of another project."""

import signal

import numpy as np
import pytest
import torch

from tests.support.nets import CLASSES, picture

torch.set_num_threads(1)  # the nets are small, and two threads each would only wait for each other


# A shell's job in the background ignores Ctrl-C, and so would every command that a test starts there
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or left in the user's cache; tests of one session share what they render."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with train/<class>/* and val/<class>/*: 24 and 6 pictures a class, JPEG, of many sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    for split, count in (("train", 24), ("val", 6)):
        for kind in CLASSES:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                picture(kind, rng).save(folder / f"{i:03d}.jpeg", quality=90)
    return root


@pytest.fixture
def photos_copy(photos, tmp_path):
    """The same folder, to be spoilt."""
    import shutil

    return shutil.copytree(photos, tmp_path / "photos")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
