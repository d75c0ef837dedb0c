"""Loader processes give the same batches however they start, and say what they lack."""

import multiprocessing
import os
import signal

import pytest
import torch

from tests.support.nets import thin_spec
from tests.support.run import run
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
    # copied, because the memory that a worker shares ends with it
    return [TrainBatch(*(tensor.clone() for tensor in next(loader)[:4]), []) for _ in range(STEPS)]


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


def test_too_little_shared_memory_is_an_error_of_the_main_process(photos, monkeypatch):
    """PyTorch would report it in a worker's thread, and the main process would wait forever."""

    def no_space(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setenv(START_METHOD, "fork")  # so that workers inherit what is patched
    monkeypatch.setattr(torch.Tensor, "share_memory_", no_space)
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        with (
            pytest.raises(CheckFailed, match="too little shared memory .*RESUME --workers N"),
            explain_lost_worker("RESUME"),
        ):
            first_batches(photos, workers=1)
    finally:
        signal.signal(signal.SIGCHLD, handler)
