"""Files of cells: what cannot be read is set aside, what cannot be written is an error."""

import errno
import os

import numpy as np
import pytest

from bench.accuracy.cell_store import CellSize, exclusive, open_cell
from tests.support.cells import IDENTITY
from vgg_deploy.errors import InputError


@pytest.mark.slow
def test_damaged_files_are_set_aside_and_computed_again(stored, capsys):
    file, _, again = stored
    whole = file.read_bytes()
    aside = file.with_name(f"{file.name}.damaged")
    header = np.lib.format.magic(1, 0)
    for damage in (
        whole[:-100],
        whole[:50],
        b"",
        header + b"nonsense",
        header + b"\x10\x00" + b"((((((((((((((((",
        whole + b"more",
        whole.replace(b"(24,)", b"(-4,)"),
        whole.replace(b"<f4", b"|O8"),
        b"\x93NUMPY\xff\xff",
    ):
        file.write_bytes(damage)
        measured, lines = again(capsys)
        assert measured.scored == 24 and aside.read_bytes() == damage
        (line,) = lines
        assert line.startswith(f"{file}: ")
        assert f"renamed to {aside.name}, computed again" in line
    for other in (
        np.zeros((3, 4), np.float32),
        np.zeros((24, 4), np.float32),
        np.zeros(24, np.float64),
    ):
        np.save(file, other)
        measured, lines = again(capsys)
        assert measured.scored == 24
        (line,) = lines
        assert "does not hold 24 rows of this cell" in line


@pytest.mark.slow
def test_a_file_that_is_not_regular_is_set_aside(stored, capsys):
    """A FIFO would block for ever, a device would never end."""
    file, _, again = stored

    def link_to_a_device(path):
        path.symlink_to("/dev/zero")

    lock = file.parent / ".lock"
    for path, scored in ((file, 24), (file.with_suffix(".json"), 0), (lock, 0)):
        for make in (os.mkfifo, link_to_a_device, os.mkdir):
            path.unlink()
            make(path)
            measured, lines = again(capsys)
            assert measured.scored == scored and len(lines) == 1 and str(path) in lines[0]
            aside = path.with_name(f"{path.name}.damaged")
            if make is os.mkdir:
                aside.rmdir()
            else:
                aside.unlink()


def test_a_damaged_file_that_cannot_be_renamed_is_removed(stored, capsys):
    file, _, again = stored
    file.write_bytes(b"")
    (file.parent / f"{file.name}.damaged" / "in the way").mkdir(parents=True)
    measured, lines = again(capsys)
    assert measured.scored == 24 and "; removed, computed again" in lines[0]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        InputError, match="No space left on device.*a cell of 1000 images takes 4.01 MB"
    ):
        open_cell(tmp_path, IDENTITY, CellSize(1000, 1000, "float32"), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(InputError, match="file: cannot be written.*--cells"),
        exclusive(tmp_path / "file"),
    ):
        pass
