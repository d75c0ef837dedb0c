"""Decoding in worker processes: pixels, order, and how they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.data import decode_pool
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.patience import Patience
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.shared_buffers import SharedBuffers

SMALL, LARGE = Scale(32, "bilinear"), Scale(48, "bicubic")
METHODS = multiprocessing.get_all_start_methods()
needs_fork = pytest.mark.skipif(
    "fork" not in METHODS, reason="this system starts processes without fork"
)
needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="without /proc, dead and ended processes look alike"
)


@pytest.fixture
def odd(tmp_path):
    """Photos for several tasks; some are slivers that do not fit into a buffer beside others."""
    rng = np.random.default_rng(0)
    for i, (w, h) in enumerate([(64, 48), (900, 40), (40, 900), (1000, 36), (50, 50)] * 4):
        path = tmp_path / "val" / "c" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)).save(path)
    return open_dataset(tmp_path, "val")


def everything(dataset, *scales):
    return {scale: np.ones(len(dataset), bool) for scale in scales}


@pytest.mark.parametrize(
    ("processes", "method"), [(1, "fork"), (3, "fork"), (2, "spawn"), (2, "forkserver")]
)
@pytest.mark.slow
def test_pixels_and_order_are_pillows(odd, processes, method, monkeypatch):
    if method not in METHODS:
        pytest.skip(f"this system has no {method}")
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", method)
    wanted = everything(odd, SMALL, LARGE)
    wanted[LARGE][::3] = False
    seen = []
    for index, images in decoded(odd, wanted, processes):
        seen.append(index)
        assert set(images) == {scale for scale, chosen in wanted.items() if chosen[index]}
        original = Image.open(odd.path(index))
        for (side, filter), image in images.items():
            assert min(image.shape[1:]) == side
            resized = original.resize(image.shape[:0:-1], getattr(Image.Resampling, filter.upper()))
            np.testing.assert_array_equal(image.transpose(1, 2, 0), np.asarray(resized))
    assert seen == list(range(len(odd)))


def test_an_unknown_start_method_is_refused(odd, monkeypatch):
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", "thread")
    with pytest.raises(InputError, match="VGG_DEPLOY_START_METHOD=thread.*fork"):
        next(decoded(odd, everything(odd, SMALL), 1))


@pytest.mark.slow
def test_named_memory_is_removed(odd, monkeypatch):
    """Also if the loop ends early."""
    names = []

    def noted(*args, **more) -> SharedBuffers:
        buffers = SharedBuffers(*args, **more)
        names.append(buffers.named.name)
        return buffers

    monkeypatch.setattr(decode_pool, "SharedBuffers", noted)
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", "spawn")
    for _ in decoded(odd, everything(odd, SMALL), 1):
        SharedMemory(names[0]).close()  # exists
        break
    with pytest.raises(FileNotFoundError):
        SharedMemory(names[0])


def test_processes_end_with_the_loop(odd):
    before = set(multiprocessing.active_children())
    for _ in decoded(odd, everything(odd, SMALL), 2):
        assert len(set(multiprocessing.active_children()) - before) == 2
        break
    assert set(multiprocessing.active_children()) == before


def test_a_killed_process_is_reported(odd):
    before = set(multiprocessing.active_children())
    with pytest.raises(CheckFailed, match="a decoding process ended with -9.*use fewer threads"):
        for _ in decoded(odd, everything(odd, SMALL), 2):
            for process in set(multiprocessing.active_children()) - before:
                os.kill(process.pid, signal.SIGKILL)
                process.join()
    assert set(multiprocessing.active_children()) == before


@pytest.mark.slow
@needs_proc
def test_nothing_is_left_when_the_main_process_is_killed(odd):
    """Nor do Ctrl-C and SIGTERM, which reach all processes of a job, end its decoders."""
    code = f"""
import multiprocessing, time, numpy as np
from vgg_deploy.data import decode_pool
from vgg_deploy.data.layouts import open_dataset
dataset = open_dataset({str(odd.root)!r}, "val")
wanted = {{decode_pool.Scale(32, "bilinear"): np.ones(len(dataset), bool)}}
for _ in decode_pool.decoded(dataset, wanted, 2):
    print(*(p.pid for p in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""
    main = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    decoders = [int(pid) for pid in main.stdout.readline().split()]
    assert len(decoders) == 2
    for pid in decoders:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    time.sleep(1)
    assert all(alive(pid) for pid in decoders)
    main.kill()
    main.wait()
    main.stdout.close()
    ends = time.monotonic() + 30
    while any(map(alive, decoders)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not any(map(alive, decoders))


@needs_fork
def test_ctrl_c_while_processes_start_is_not_lost(odd, monkeypatch):
    """It comes in the middle of a fork, whose hooks would swallow what its handler raises."""
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", "fork")
    before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGINT)
    armed = [signal.SIGINT]  # sent once: a second one could come when the test has ended
    os.register_at_fork(after_in_parent=lambda: armed and signal.raise_signal(armed.pop()))
    with pytest.raises(KeyboardInterrupt):
        try:
            for _ in decoded(odd, everything(odd, SMALL), 2):
                pass
        finally:
            armed.clear()
    assert set(multiprocessing.active_children()) == before
    assert signal.getsignal(signal.SIGINT) is handler


@needs_fork
@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (MemoryError, CheckFailed, "decoding ran out of memory"),
        (ZeroDivisionError, RuntimeError, "in image"),
    ],
)
def test_what_is_no_fault_of_an_image_is_raised_by_the_main_process(
    odd, monkeypatch, error, raised, said
):
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", "fork")  # so that workers have this fault too

    def image(self, index):
        if index == 6:
            raise error
        return read(self, index)

    read = type(odd).image
    monkeypatch.setattr(type(odd), "image", image)
    seen = []
    with pytest.raises(raised, match=f"(?s)06.png.*{said}"):
        for index, _ in decoded(odd, everything(odd, SMALL), 2):
            seen.append(index)
    assert seen == list(range(6))


@needs_fork
def test_processes_that_cannot_start_are_reported(odd, monkeypatch):
    monkeypatch.setenv("VGG_DEPLOY_START_METHOD", "fork")
    before, fork, calls = set(multiprocessing.active_children()), os.fork, []

    def scarce():
        calls.append(1)
        if len(calls) == 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    with pytest.raises(CheckFailed, match="cannot start 4 decoding processes .*use fewer threads"):
        next(decoded(odd, everything(odd, SMALL), 4))
    assert set(multiprocessing.active_children()) == before


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_stopped_process_ends_the_run_with_a_message(photos):
    dataset, before = open_dataset(photos, "train"), set(multiprocessing.active_children())
    images = decoded(dataset, everything(dataset, SMALL), 2, Patience(seconds=0.5))
    next(images)
    children = set(multiprocessing.active_children()) - before
    for child in children:
        os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(CheckFailed, match=r"decoding process \(\d+, stopped by a signal\)"):
        list(images)
    assert len(children) == 2 and not any(child.is_alive() for child in children)
