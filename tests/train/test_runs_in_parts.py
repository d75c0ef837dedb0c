"""Runs with --micro-batch: as whole batches train, over processes, and after an interruption."""

import json
import signal

import pytest
import torch

from tests.support.options import options
from tests.support.run import run
from tests.support.warm import until
from tests.train.test_trained_by_processes import RUN, assert_close, two
from train.__main__ import main as train
from vgg_deploy.net.checkpoint import load_checkpoint


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())["config"]


@pytest.mark.slow
def test_a_run_in_parts_learns_what_whole_batches_do_also_over_processes(warm, photos, here):
    """Oracle: whole batches in one process. Two processes cut their halves of 8 into 3, 3, 2."""
    args = [*RUN, *options(f"--data {photos} --epochs 2 --out")]
    assert warm.train(here, *args, here / "whole").wait() == 0
    training = warm.train(here, *args, here / "parts", "--micro-batch", "5")
    assert training.wait() == 0, training.output()
    assert "Micro-batch 5, 4 parts an update of 16" in training.output()
    assert "2 epochs of batch 16, micro-batch 5, S in" in training.output()
    assert_close(here / "parts", here / "whole")
    codes, output = two(warm, here, *args, here / "two", "--micro-batch", "3")
    assert codes == [0, 0], output
    assert "Micro-batch 3, 3 parts an update of 8" in output[0]
    assert_close(here / "two", here / "whole")


@pytest.mark.slow
def test_a_resumed_run_keeps_its_parts_bit_for_bit(warm, photos, here):
    args = [*RUN, *options(f"--data {photos} --micro-batch 5 --epochs 8 --out")]
    unbroken = warm.train(here, *args, here / "unbroken")
    assert unbroken.wait() == 0, unbroken.output()
    folder = here / "run"
    training = warm.train(here, *args, folder)
    until(lambda: (folder / "last.pt").exists())
    training.send(signal.SIGTERM)
    assert training.wait() == 143, training.output()
    assert load_checkpoint(folder / "last.pt").training["micro_batch"] == 5
    assert config_of(folder)["micro_batch"] == 5
    again = options("--threads 1 --workers 0")
    resumed = warm.train(here, "--resume", folder, *again)
    assert resumed.wait() == 0, resumed.output()
    one, two_ = (load_checkpoint(each / "last.pt") for each in (folder, here / "unbroken"))
    assert one.training["step"] == two_.training["step"] == 48
    assert all(torch.equal(one.weights[name], two_.weights[name]) for name in one.weights)
    best = load_checkpoint(folder / "best.pt")
    assert best.training == {} and best.spec == one.spec


@pytest.mark.slow
def test_the_parts_of_a_resumed_run_may_change(warm, photos, here):
    """From whole batches to as many images as fit: the state's own size does not count then."""
    args = [*RUN, *options(f"--data {photos} --epochs 60 --checkpoint-every 1 --out")]
    training = warm.train(here, *args, here / "run")
    until(lambda: (here / "run" / "last.pt").exists())
    training.send(signal.SIGTERM)
    assert training.wait() == 143, training.output()
    assert config_of(here / "run")["micro_batch"] is None
    more = options("--micro-batch auto --threads 1 --workers 0")
    resumed = warm.train(here, "--resume", here / "run", *more)
    until(lambda: "Micro-batch" in resumed.log.read_text() or not resumed.alive())
    resumed.send(signal.SIGTERM)
    resumed.wait()
    assert "Micro-batch 16, 1 parts an update of 16: an image keeps 0.1 MiB" in resumed.output()
    assert config_of(here / "run")["micro_batch"] == "auto"


def test_a_size_that_is_no_number_is_refused(here):
    output = run(train, "--data", here, "--micro-batch", "half", code=2)
    assert "'half' is not a whole number from 1 to 1000000, or auto" in output
