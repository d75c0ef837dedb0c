"""What a name leads to. Oracle: pipes, devices, sockets and endless files that the system makes."""

import os
import socket
import time

import pytest

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.regular_files import is_regular, open_regular, read_regular, read_regular_text


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("ä\r\nb\rc".encode())
    (tmp_path / "link").symlink_to(path)
    assert read_regular(tmp_path / "link", 100) == path.read_bytes()
    assert read_regular_text(path) == "ä\nb\nc" == path.read_text("utf-8")
    assert is_regular(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        start = time.monotonic()
        for name in ("pipe", "zero", "loop", "socket", ".", "missing", "x" * 300, "a\0b"):
            with pytest.raises(OSError):
                open_regular(tmp_path / name)
            assert not is_regular(tmp_path / name)
        assert time.monotonic() - start < 5


def test_a_file_beyond_its_bound_is_refused(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="has 1,048,576 MiB, more than the 1 MiB that are read"):
        open_regular(path, 2**20)
    with pytest.raises(OSError, match="more than the 256 MiB"):
        read_regular_text(path)


def test_a_file_that_grows_is_refused():
    # the system states 0 bytes for these files, whatever they hold
    with pytest.raises(OSError, match="more than the 0 MiB"):
        read_regular("/proc/self/status", 10)


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match="is not a regular file; choose another name"):
            write_text(tmp_path / name, "x")
    assert pipe.is_fifo() and (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_small_file_is_read_with_little_memory_whatever_its_bound(tmp_path):
    """Oracle: the limit of the system; a read of 2 TB would need as much address space."""
    path = tmp_path / "x"
    path.write_bytes(b"content")
    assert read_regular(path, 2**41) == b"content"
    assert read_regular(path, 7) == b"content"
    with pytest.raises(OSError, match="more than"):
        read_regular(path, 6)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system has no /proc")
def test_a_file_of_the_system_without_a_size_is_read_whole():
    assert b"VmPeak" in read_regular("/proc/self/status", 2**20)
