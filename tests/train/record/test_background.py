"""Checkpoints that are written while training goes on, and the file that two names share."""

import errno
import os
import threading

import pytest
import torch

from tests.support.nets import thin_net, thin_spec
from train.recipe.config import TrainConfig
from train.record.background import BackgroundWriter
from train.record.keeper import Keeper
from train.record.run_folder import Run
from train.record.snapshot import snapshot
from train.record.state import State
from train.step.health import Health
from train.step.training import Training
from train.step.update import Updater
from vgg_deploy.errors import InputError
from vgg_deploy.job import ALONE
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint

CONFIG = TrainConfig(arch="A", width=1 / 16, crop=32, side=(32, 32), batch=8)


@pytest.fixture
def training(tmp_path) -> Training:
    updater = Updater(thin_net("A").train(), False, CONFIG, ALONE, compiled=False)
    keeper = Keeper(Run(tmp_path), 1000, BackgroundWriter())
    return Training(updater, State(images=80), Health(4, "he", print), keeper)


def weights_of(net) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_what_is_written_is_what_was_there_when_it_started(training, monkeypatch):
    """Weights, momentum and state change before the first byte is written."""
    go, run, net = threading.Event(), training.keeper.run, training.updater.net
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda *given: go.wait(30) and save(*given))
    before = weights_of(net)
    training.state.errors.append(50.0)
    training.save()
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(1)
            training.updater.optimiser.state[weights]["momentum_buffer"].add_(1)
    training.state.errors.append(40.0)
    training.state.step = 9
    assert not run.last.exists()
    go.set()
    training.wait_for_checkpoint()
    checkpoint, state = run.load_last()
    assert all(torch.equal(before[name], checkpoint.weights[name]) for name in before)
    moved = checkpoint.training["optimiser"]["state"].values()
    assert all((entry["momentum_buffer"] == 0).all() for entry in moved)
    assert (state.errors, state.step) == ([50.0], 0)


def test_the_layout_in_memory_is_kept():
    tensor = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    copied = snapshot({"a": [tensor, (1, "x")]})["a"]
    assert copied[0].stride() == tensor.stride() and torch.equal(copied[0], tensor)
    assert copied[0].data_ptr() != tensor.data_ptr() and copied[1] == (1, "x")


def test_one_thing_at_a_time_is_written_in_the_order_it_came():
    writer, running, written = BackgroundWriter(), [], []

    def write(number: int) -> None:
        assert not running
        running.append(number)
        threading.Event().wait(0.02)
        written.append(running.pop())

    for number in range(5):
        writer.start(lambda number=number: write(number))
    writer.wait()
    assert written == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["start", "check", "wait"])
def test_an_error_is_raised_once_by_the_next_call(how):
    writer, done = BackgroundWriter(), threading.Event()

    def write() -> None:
        try:
            raise InputError("last.pt: writing failed")
        finally:
            done.set()

    writer.start(write)
    done.wait(30)
    writer.settle()
    call = {"start": lambda: writer.start(print), "check": writer.check, "wait": writer.wait}
    with pytest.raises(InputError, match="writing failed"):
        call[how]()
    call[how]()
    writer.wait()


def test_a_disk_that_refuses_ends_the_updates_that_follow(training):
    training.keeper.run.last.mkdir(parents=True)  # nothing can be written there
    training.save()
    training.keeper.writer.settle()
    with pytest.raises(InputError, match="last.pt: .* Free some disk space and resume with"):
        training.refuse_failed_checkpoint()


# --- best.pt ---


def checkpoint(seed: int) -> Checkpoint:
    net = thin_net("A", seed=seed)
    return Checkpoint(net.spec, net.state_dict(), {"step": seed})


def test_best_is_the_same_file_until_last_goes_on(tmp_path):
    run = Run(tmp_path)
    run.save(checkpoint(1), best=True)
    assert run.best.stat().st_ino == run.last.stat().st_ino
    first = run.best.read_bytes()
    run.save(checkpoint(2), best=False)
    assert run.best.read_bytes() == first != run.last.read_bytes()
    run.save(checkpoint(3), best=True)
    assert load_checkpoint(run.best).training == {"step": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]
    last = run.last.read_bytes()
    run.finish_best()
    assert load_checkpoint(run.best).training == {} and run.last.read_bytes() == last
    assert run.best.stat().st_ino != run.last.stat().st_ino
    kept = run.best.stat().st_mtime_ns, run.best.stat().st_ino
    run.finish_best()  # nothing is left to do
    assert (run.best.stat().st_mtime_ns, run.best.stat().st_ino) == kept
    for name, weights in checkpoint(3).weights.items():
        assert torch.equal(load_checkpoint(run.best).weights[name], weights)


def test_best_gets_its_name_first(tmp_path, monkeypatch):
    """A kill between the two leaves a state that does not count these weights as the best yet."""
    run, replaced, replace = Run(tmp_path), [], os.replace
    run.save(checkpoint(1), best=True)

    def failing(source, target):
        replaced.append(os.path.basename(target))
        if target == run.last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match="last.pt: writing failed"):
        run.save(checkpoint(2), best=True)
    monkeypatch.undo()
    assert replaced == ["best.pt", "last.pt"]
    assert load_checkpoint(run.best).training == {"step": 2}
    assert load_checkpoint(run.last).training == {"step": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_without_hard_links_best_is_a_file_of_its_own(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    run = Run(tmp_path)
    run.save(checkpoint(1), best=True)
    assert load_checkpoint(run.best).training == {} and load_checkpoint(run.last).training
    assert thin_spec("A") == load_checkpoint(run.best).spec
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_a_device_in_the_place_of_best_is_not_replaced(tmp_path):
    run = Run(tmp_path)
    os.mkfifo(run.best)
    with pytest.raises(InputError, match="best.pt: is not a regular file"):
        run.save(checkpoint(1), best=True)
    assert not run.last.exists() and run.best.is_fifo()
