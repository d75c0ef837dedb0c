"""Folders that may not be listed are named in one sentence. Oracle: the system's permissions."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.accuracy.cell_pruning import kept_cells
from vgg_deploy.data.directory import entries
from vgg_deploy.data.shard_writer import refuse_old_shards
from vgg_deploy.errors import InputError
from vgg_deploy.net.named_weights import locate

NOBODY = 65534
LISTERS = {
    "weights": locate,
    "images": entries,
    "shards": refuse_old_shards,
    "cells": kept_cells,
}


@contextmanager
def another_user():
    """Permissions of a user that is not root, to whom they mean nothing."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
@pytest.mark.parametrize("name", LISTERS)
def test_a_folder_that_may_not_be_listed_is_named(name):
    above = Path(tempfile.mkdtemp())
    try:
        above.chmod(0o755)
        folder = above / "closed"
        folder.mkdir()
        folder.chmod(0)
        with another_user(), pytest.raises(InputError, match="closed: cannot be listed .Perm"):
            LISTERS[name](folder)
        folder.chmod(0o755)
    finally:
        shutil.rmtree(above)
