"""Loader processes give the same batches however they start, and say what they lack."""

import errno
import gc
import multiprocessing
import os
import pickle
import signal
import time
from contextlib import closing
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from tests.support.nets import thin_spec
from tests.support.run import run
from train.feed.anonymous_memory import SentBatch
from train.feed.colour_statistics import measure_colours
from train.feed.examples import Examples
from train.feed.loader import train_batches
from train.feed.loader_workers import explain_lost_worker
from train.feed.views import TrainBatch, Views
from train.first_weights import random_net
from train.pack import main as pack
from train.recipe.config import TrainConfig
from train.step.trainee import shape_for_training
from train.step.update import Updater
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.patience import Patience, StopWaiting
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import ALONE
from vgg_deploy.worker_processes import START_METHOD

CONFIG = TrainConfig(
    arch="A", width=1 / 16, crop=32, side=(32, 64), batch=16, epochs=1, init="he", streams=4
)
STEPS = 3


def views_of(data) -> Views:
    dataset = open_dataset(data, "train")
    components = measure_colours(dataset, 1).components()
    return Views(dataset, CONFIG, thin_spec("A").preprocessing, components)


def first_batches(data, workers: int) -> list[TrainBatch]:
    """The first batches of an epoch; the loader and its processes are gone afterwards."""
    loader = train_batches(views_of(data), 0, workers, pin=False)
    with closing(loader):
        return [next(loader) for _ in range(STEPS)]


def trained(batches: list[TrainBatch]) -> dict[str, torch.Tensor]:
    """Weights after one update per batch."""
    net = shape_for_training(random_net(thin_spec("A"), CONFIG), "cpu", "fp32")
    updater = Updater(net, False, CONFIG, ALONE, compiled=False)
    for step, batch in enumerate(batches):
        inputs = batch.crops.float() - 120 + batch.shifts[:, :, None, None]
        updater.step(Examples(inputs, batch.labels, batch.rows), step, len(batch.labels))
    return net.state_dict()


@pytest.fixture(params=["files", "shards"])
def data(request, here, photos):
    if request.param == "files":
        return photos
    run(pack, photos, here / "shards", "--images-per-shard", "40")
    return here / "shards"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_batches_do_not_depend_on_how_workers_start(data, monkeypatch, method):
    """Oracle: the same training without workers."""
    alone = first_batches(data, workers=0)
    monkeypatch.setenv(START_METHOD, method)
    loaded = first_batches(data, workers=2)
    for one, other in zip(alone, loaded, strict=True):
        for name in ("crops", "shifts", "labels", "rows"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    weights = trained(alone)
    assert all(torch.equal(weights[name], other) for name, other in trained(loaded).items())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signals_do_not_end_workers_that_are_still_starting(photos, monkeypatch, method):
    """A scheduler's SIGTERM and Ctrl-C reach the whole job; the main process alone acts on them."""
    monkeypatch.setenv(START_METHOD, method)
    loader = train_batches(views_of(photos), 0, workers=1, pin=False)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    assert len(next(loader).labels) == CONFIG.batch
    os.kill(worker.pid, signal.SIGTERM)
    assert len(next(loader).labels) == CONFIG.batch
    assert worker.is_alive()
    loader.close()
    assert not worker.is_alive()


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.EMFILE, "too few file descriptors .*ulimit -n.*RESUME --workers N"),
        (errno.ENOMEM, "memory ran out in a loader process; .*RESUME --workers N"),
    ],
)
def test_a_batch_that_cannot_be_sent_is_an_error_of_the_main_process(
    photos, monkeypatch, number, message
):
    """PyTorch would report it in a worker's thread, and the main process would wait forever."""

    def fails(name, flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv(START_METHOD, "fork")  # so that workers inherit what is patched
    monkeypatch.setattr(os, "memfd_create", fails)
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(CheckFailed, match=message), explain_lost_worker("RESUME"):
            first_batches(photos, workers=1)
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_a_batch_arrives_as_it_was_sent():
    """Also without a readable image, and the memory lives as long as one of its tensors."""
    crops = torch.arange(2 * 3 * 5 * 5, dtype=torch.uint8).reshape(2, 3, 5, 5)
    batch = TrainBatch(crops, torch.rand(2, 3), torch.tensor([3, 1]), torch.tensor([0, 2]), ["x"])
    none = TrainBatch(torch.empty(0), torch.empty(0), *[torch.empty(0, dtype=torch.int64)] * 2, [])
    for sent in (batch, none):
        received = pickle.loads(ForkingPickler.dumps(SentBatch(sent)))
        assert received.unreadable == sent.unreadable
        for name in ("crops", "shifts", "labels", "rows"):
            one, other = getattr(received, name), getattr(sent, name)
            assert one.dtype == other.dtype and torch.equal(one, other), name
    kept = pickle.loads(ForkingPickler.dumps(SentBatch(batch))).labels
    gc.collect()
    assert kept.tolist() == [3, 1]


@pytest.mark.slow
def test_a_stopped_process_is_named_and_killed(photos, monkeypatch):
    """A process that never answers, as on a stuck disk; a signal ends the wait at once."""
    monkeypatch.setenv(START_METHOD, "fork")
    stopping = []
    loader = train_batches(
        views_of(photos), 0, 1, pin=False, patience=Patience(1, lambda: bool(stopping))
    )
    (worker,) = set(multiprocessing.active_children())
    next(loader)
    os.kill(worker.pid, signal.SIGSTOP)
    message = rf"no batch for 1 s \(process {worker.pid} is stopped by a signal, image opened last"
    with (
        pytest.raises(CheckFailed, match=message + r": .*/train/\w+/\d+\.jpeg\).*RESUME"),
        explain_lost_worker("RESUME"),
    ):
        for _ in range(9):
            next(loader)
    stopping.append(signal.SIGTERM)
    with pytest.raises(StopWaiting):
        next(loader)
    start = time.monotonic()
    loader.close()
    assert not worker.is_alive() and time.monotonic() - start < 3


@pytest.mark.slow
@pytest.mark.nightly
def test_processes_end_quietly_beside_another_dataloader(photos, monkeypatch):
    """PyTorch's handler of ended children raises when a worker is killed: it must not see ours."""
    monkeypatch.setenv(START_METHOD, "spawn")
    # PyTorch installs its handler once
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        assert len(list(DataLoader(range(4), num_workers=1))) == 4
        assert signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL  # PyTorch's
        for _ in range(3):
            assert first_batches(photos, workers=2)
    finally:
        signal.signal(signal.SIGCHLD, before)
