"""One process holds a lock, others fail or wait. The lock ends with the process."""

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from vgg_deploy import locks
from vgg_deploy.errors import InputError
from vgg_deploy.locks import exclusive_lock, waiting_lock

HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from vgg_deploy.locks import exclusive_lock

def child(running):
    running.set()
    time.sleep(5)

with exclusive_lock(Path(sys.argv[1]), "busy") as held:
    if sys.argv[2] == "with a child":
        fork = multiprocessing.get_context("fork")
        running = fork.Event()
        fork.Process(target=child, args=(running,)).start()
        running.wait()
    print(held, flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path, child="alone"):
    """A lock that another process holds during the block."""
    command = [sys.executable, "-c", HOLDER, str(path), child]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert holder.stdout.readline() == "True\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_a_lock_that_another_process_holds_is_refused_at_once(tmp_path):
    path = tmp_path / ".lock"
    with (
        held_elsewhere(path),
        pytest.raises(InputError) as refused,
        exclusive_lock(path, "someone is here", "out"),
    ):
        pass
    assert refused.value.message == "someone is here" and refused.value.about == "out"


def test_a_lock_is_free_after_the_block_and_after_an_error_in_it(tmp_path):
    path = tmp_path / ".lock"
    with exclusive_lock(path, "busy") as held:
        assert held
    with pytest.raises(ValueError), exclusive_lock(path, "busy"):
        raise ValueError
    with held_elsewhere(path):
        pass


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_outlives_a_killed_process_does_not_hold_its_lock(tmp_path):
    path = tmp_path / ".lock"
    with held_elsewhere(path, "with a child") as holder:
        holder.kill()
        holder.wait()
        with exclusive_lock(path, "busy") as held:
            assert held


def test_another_process_is_waited_for(tmp_path):
    path = tmp_path / ".lock"
    with held_elsewhere(path) as holder:
        start = time.monotonic()
        ending = threading.Timer(0.5, holder.kill)
        ending.start()
        with waiting_lock(path) as held:
            assert held
        assert time.monotonic() - start > 0.3
        ending.join()


@pytest.mark.parametrize("lock", [lambda path: exclusive_lock(path, "busy"), waiting_lock])
def test_a_file_system_without_locks_lets_the_work_go_on(lock, tmp_path, monkeypatch):
    def unsupported(self, timeout):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", unsupported)
    with lock(tmp_path / ".lock") as held:
        assert not held


@pytest.mark.parametrize("lock", [lambda path: exclusive_lock(path, "busy"), waiting_lock])
def test_a_folder_that_cannot_be_written_is_refused(lock, tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    with (
        pytest.raises(InputError, match="cannot be written") as refused,
        lock(blocker / ".lock"),
    ):
        pass
    assert str(blocker) in refused.value.message
