"""Files appear whole, those that belong together appear together, and remains are swept."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from vgg_deploy import files
from vgg_deploy.errors import InputError
from vgg_deploy.files import append, sha256, whole_file, whole_files, write_text

NAMES = ("a.bin", "a.json")


def write_both(folder, text):
    with whole_files([folder / name for name in NAMES], [folder / "a.sig"]) as partials:
        for partial in partials:
            partial.write_text(text)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_rename_that_fails_leaves_the_older_files(nth, tmp_path, monkeypatch):
    """Three files move aside, two get their names."""
    write_both(tmp_path, "old")
    (tmp_path / "a.sig").write_text("old")
    before, replace, count = contents(tmp_path), os.replace, 0

    def failing(source, target):
        nonlocal count
        count += 1
        if count == nth:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(InputError, match="No space left .* previous files are unchanged"):
            write_both(tmp_path, "new")
    assert contents(tmp_path) == before
    write_both(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


@pytest.mark.skipif(sys.platform == "win32", reason="files of killed processes stay on Windows")
def test_files_of_a_killed_process_are_swept_and_those_of_a_living_one_stay(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vgg_deploy.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as partial:\n"
        "    partial.with_name(partial.name + '.abc.twin.onnx').touch()\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.txt"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        (tmp_path / ".note.partial").touch()  # nobody's: it has no random part
        with whole_file(tmp_path / "outer.txt") as partial:
            partial.write_text("outer")
            write_text(tmp_path / "b.txt", "b")
            assert len(list(tmp_path.glob(".a.txt.*"))) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    write_text(tmp_path / "b.txt", "b")
    assert {path.name for path in tmp_path.iterdir()} == {".note.partial", "b.txt", "outer.txt"}


def test_appending_waits_for_no_reader_of_a_pipe(tmp_path):
    path, pipe = tmp_path / "summary.md", tmp_path / "pipe"
    append(path, b"one ")
    append(path, b"two")
    assert path.read_bytes() == b"one two"
    os.mkfifo(pipe)
    with pytest.raises(OSError):  # without a reader
        append(pipe, b"x")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        append(pipe, b"x")
        assert os.read(reader, 9) == b"x"
    finally:
        os.close(reader)


def test_a_digest_is_known_again_only_for_a_file_that_has_settled(tmp_path, monkeypatch):
    """Oracle: hashlib on the bytes."""
    path, read = tmp_path / "a.bin", []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(1) or digest(*given))

    def is_right() -> bool:
        return sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()

    path.write_bytes(b"one")
    assert is_right() and is_right() and len(read) == 2  # it may still be changing
    now = time.time_ns()
    monkeypatch.setattr(files.time, "time_ns", lambda: now + 10 * 10**9)
    assert is_right() and is_right() and len(read) == 3
    state = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copy that keeps times
    assert is_right() and len(read) == 4
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        sha256(path)
