"""Folders that may not be listed are named in one sentence. Oracle: the system's permissions."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.accuracy.cell_pruning import kept_cells
from vgg_deploy.command_line import Command
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


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
def test_a_command_names_what_it_may_not_look_at():
    """Wherever that is: even Path.is_dir raises, where a folder above may not be searched."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    (above / "closed").mkdir()

    @click.command(cls=Command)
    def looks():
        (above / "closed" / "data").is_dir()

    try:
        assert CliRunner().invoke(looks).exit_code == 0
        (above / "closed").chmod(0)
        with another_user():
            ended = CliRunner().invoke(looks)
        (above / "closed").chmod(0o755)
    finally:
        shutil.rmtree(above)
    assert ended.exit_code == 2
    assert ended.output == (
        f"Error: {above}/closed/data: permission denied; check its permissions, and those of the "
        "folders above it\n"
    )
