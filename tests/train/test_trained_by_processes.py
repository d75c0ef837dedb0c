"""Training over processes: two real ones on the CPU against one, and the loss of one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.support.nets import thin_net, thin_spec
from tests.support.options import options
from tests.support.warm import Training, until
from train.feed.colour_statistics import measure_colours
from train.feed.epoch_order import EpochBatches
from train.feed.examples import Examples
from train.feed.loader import train_batches
from train.feed.views import Views
from train.first_weights import random_net
from train.recipe.config import TrainConfig
from train.record.state import State
from train.step.health import Health
from train.step.loop import fit
from train.step.trainee import dropout_masks, shape_for_training
from train.step.training import Training as StepTraining
from train.step.update import Updater
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import ALONE
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.spec import Preprocessing

ROOT = Path(__file__).parents[2]
THIN = options("--arch A --width 0.0625 --crop 32 --side 32:64 --batch 16 --init he --lr 0.003")
RUN = [*THIN, "--epochs", "3", "--workers", "0", "--threads", "1"]
LOST = "another process of this job ended"


def started(warm, here, *args) -> list[Training]:
    """A job of two processes with the environment that torchrun gives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [warm.train(here, *args, RANK=rank, LOCAL_RANK=rank, **common) for rank in "01"]


def two(warm, here, *args) -> tuple[list[int], list[str]]:
    """Exit codes of such a job, and what its processes print."""
    trainings = started(warm, here, *args)
    return [training.wait() for training in trainings], [
        training.output() for training in trainings
    ]


def torchrun(here, *args, restarts=0):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options("--standalone --nproc-per-node 2 --max-restarts"),
        str(restarts),
        "-m",
        "train",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(here / "torchrun.log", "w") as log:
        return subprocess.Popen(
            [*command, *map(str, args)], cwd=here, stdout=log, stderr=log, env=env
        )


def workers_of(process) -> list[int]:
    """Its trainings in the order of their ranks."""
    found = []
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        found += [
            (value.removeprefix("RANK="), int(pid))
            for value in environ
            if value.startswith("RANK=")
        ]
    return [pid for _, pid in sorted(found)]


def assert_close(one, other):
    """Weights and tables of two runs, to rounding."""
    a, b = (load_checkpoint(folder / "last.pt") for folder in (one, other))
    assert a.training["step"] == b.training["step"] > 0
    for name, tensor in a.weights.items():
        torch.testing.assert_close(tensor, b.weights[name], rtol=1e-3, atol=2e-5)
    for table in ("steps.csv", "metrics.csv"):
        a, b = (
            pd.read_csv(folder / table).drop(columns=["images_per_s", "elapsed_s"], errors="ignore")
            for folder in (one, other)
        )
        pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(warm, photos_copy, here):
    """With dropout, and with an image that cannot be read and that one of the two meets."""
    (photos_copy / "train" / "disc" / "000.jpeg").write_bytes(b"")
    args = [*RUN, "--data", photos_copy, "--on-error", "skip", "--out"]
    assert warm.train(here, *args, here / "one").wait() == 0
    codes, (main, other) = two(warm, here, *args, here / "two")
    assert codes == [0, 0], main + other
    assert "2 processes, each with 1 threads" in main and "Done: lowest validation" in main
    assert (
        (main + other).count("Left out") >= 1 and "Net A" not in other and "epoch" not in other
    )  # one reports
    assert_close(here / "one", here / "two")
    images = pd.read_csv(here / "two" / "steps.csv")
    assert images.step.tolist() == [6, 12, 18]  # updates of 16 in all, not of 32


@pytest.mark.slow
def test_a_process_with_not_one_readable_image_takes_part(warm, photos_copy, here):
    """Batches of 2: the process with the unreadable image has none, the other makes the update."""
    (photos_copy / "train" / "disc" / "000.jpeg").write_bytes(b"")
    args = [
        *RUN,
        *options(f"--batch 2 --images 12 --epochs 2 --data {photos_copy} --on-error skip --out"),
    ]
    assert warm.train(here, *args, here / "one").wait() == 0
    codes, output = two(warm, here, *args, here / "two")
    assert codes == [0, 0], output
    assert_close(here / "one", here / "two")


@pytest.mark.slow
def test_an_unreadable_image_ends_the_job_with_its_name(warm, photos_copy, here):
    """Found at the start by the main process; damaged later, by the process that meets it."""
    common = ["--data", photos_copy, "--out", here / "run"]
    bad = photos_copy / "train" / "disc" / "000.jpeg"
    kept = bad.read_bytes()
    bad.write_bytes(b"")
    codes, output = two(warm, here, *RUN, *common)
    assert codes == [2, 2] and "000.jpeg" in output[0] and "000.jpeg" not in output[1]
    assert not (here / "run").exists()
    bad.write_bytes(kept)
    trainings = started(warm, here, *RUN, "--epochs", "1000", *common)
    until(lambda: (here / "run" / "best.pt").exists())
    for training in trainings:
        training.send(signal.SIGTERM)
    assert [training.wait() for training in trainings] == [143, 143]
    bad.write_bytes(bytes(len(kept)))  # of the same size, so that the data seem to be the same
    codes, output = two(warm, here, "--resume", here / "run", "--workers", "0", "--threads", "1")
    assert (
        sorted(codes) == [1, 2]
        and "000.jpeg" in output[codes.index(2)]
        and LOST in output[codes.index(1)]
    )


@pytest.mark.slow
def test_what_cannot_be_shared_is_reported_once(warm, photos, here):
    for args, message in (
        (
            ["--batch", "15"],
            "--batch 15 cannot be shared evenly by 2 processes; give a multiple of 2",
        ),
        (["--batch", "128"], "96 training images do not fill one batch of 128"),
        (["--crop", "33"], "crop 33 is not a multiple of 32"),
    ):
        codes, output = two(warm, here, *RUN, "--data", photos, "--out", here / "run", *args)
        assert codes == [2, 2] and "".join(output).count(message) == 1
    assert not (here / "run").exists()


@pytest.mark.slow
def test_the_environment_of_another_launcher(warm, here):
    training = warm.train(here, *RUN, WORLD_SIZE="4")
    assert training.wait() == 2 and "start by torchrun, or remove WORLD_SIZE" in training.output()


@pytest.mark.slow
def test_a_lost_process_ends_the_others(warm, photos, here):
    trainings = started(
        warm,
        here,
        *THIN,
        *options(f"--epochs 1000 --workers 0 --threads 1 --data {photos} --out {here / 'run'}"),
    )
    until(lambda: (here / "run" / "best.pt").exists())
    start = time.monotonic()
    trainings[1].send(signal.SIGKILL)
    assert trainings[0].wait(30) == 1 and time.monotonic() - start < 30
    output = trainings[0].output()
    assert LOST in output and "torchrun restarts from the last checkpoint" in output
    assert trainings[1].wait() == -signal.SIGKILL
    assert load_checkpoint(here / "run" / "last.pt").training["step"] > 0


@pytest.mark.slow
def test_a_stopped_process_is_named_and_ends_the_others(warm, photos, here):
    trainings = started(
        warm,
        here,
        *THIN,
        *options(f"--epochs 1000 --workers 0 --threads 1 --data {photos} --out {here / 'run'}"),
        *("--step-patience", 1),
    )
    until(lambda: (here / "run" / "best.pt").exists())
    trainings[1].send(signal.SIGSTOP)
    assert trainings[0].wait(60) == 1
    output = trainings[0].output()
    stopped = f"process {trainings[1].pid} of rank 1 is stopped by a signal"
    assert f"another process of this job gave nothing for 6 s ({stopped})" in output
    assert f"resume with: python -m train --resume {here / 'run'}" in output
    assert output.count("Error: ") == 1 and "Traceback" not in output
    trainings[1].send(signal.SIGKILL)
    assert trainings[1].wait() == -signal.SIGKILL


@pytest.mark.nightly
@pytest.mark.slow
def test_torchrun_restarts_and_passes_on_signals(warm, photos, here):
    """kill -9 of one of two: torchrun restarts the job, which resumes from its checkpoint.

    Then a scheduler signals every process, and torchrun passes its signal on: the second signal
    must not interrupt the saving. After resuming, the weights are those of an undisturbed job.
    """
    args = [
        *THIN,
        *options(f"--epochs 16 --workers 1 --threads 1 --checkpoint-every 2 --data {photos} --out"),
    ]
    codes, output = two(warm, here, *args, here / "unbroken")
    assert codes == [0, 0], output
    folder, log = here / "run", here / "torchrun.log"
    process = torchrun(here, *args, folder, restarts=1)
    until(lambda: (folder / "best.pt").exists(), 120)
    first = workers_of(process)
    os.kill(first[1], signal.SIGKILL)
    until(lambda: "Resuming" in log.read_text(), 120)
    kept = len(pd.read_csv(folder / "metrics.csv"))
    until(lambda: len(pd.read_csv(folder / "metrics.csv")) > kept, 120)
    second = workers_of(process)
    assert len(second) == 2 and not set(first) & set(second)
    for pid in second:
        os.killpg(pid, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    output = " ".join(log.read_text().split())
    step = load_checkpoint(folder / "last.pt").training["step"]
    assert f"stopped at step {step}; " in output and output.count("stopped at step") == 1
    assert f"; resume with: python -m train --resume {folder}" in output
    assert LOST in output and "killed by signal" not in output and 0 < step < 96
    codes, output = two(warm, here, "--resume", folder, "--workers", "0", "--threads", "1")
    assert codes == [0, 0], output
    one, other = (load_checkpoint(here / name / "last.pt") for name in ("unbroken", "run"))
    assert one.training["step"] == other.training["step"] == 96
    assert all(torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items())


# --- Their arithmetic, in this process ---


@pytest.mark.slow
def test_updates_are_those_of_a_plain_loop(warm, photos, here):
    """Oracle: mean cross-entropy, v <- 0.9 v + g + decay w, w <- w - lr v.

    Biases have their own rate and decay.
    """
    more = options("--dropout 0 --bias-lr 2 --bias-decay 0.001 --weight-decay 0.01 --epochs 1")
    assert warm.train(here, *RUN, *more, "--data", photos, "--out", here / "run").wait() == 0
    checkpoint = load_checkpoint(here / "run" / "last.pt")
    dataset = open_dataset(photos, "train")
    config = TrainConfig(
        arch="A", width=1 / 16, crop=32, side=(32, 64), batch=16, epochs=1, init="he", lr=0.003
    )
    net = random_net(checkpoint.spec, config).eval()
    mean = torch.tensor(checkpoint.spec.preprocessing.mean).view(1, 3, 1, 1)
    moving = {name: torch.zeros_like(w) for name, w in net.named_parameters()}
    for batch in train_batches(
        Views(dataset, config, Preprocessing(), measure_colours(dataset, 1).components()),
        0,
        0,
        False,
    ):
        net.zero_grad()
        cross_entropy(
            net(batch.crops.float() - mean + batch.shifts[:, :, None, None]).flatten(1),
            batch.labels,
        ).backward()
        with torch.no_grad():
            for name, w in net.named_parameters():
                decay, rate = (0.001, 0.006) if name.endswith("bias") else (0.01, 0.003)
                moving[name] = 0.9 * moving[name] + w.grad + decay * w
                w -= rate * moving[name]
    for name, w in net.named_parameters():
        off = (
            checkpoint.weights[name] - w.detach()
        ).abs()  # a value at a ReLU's or a pool's edge may fall either way
        assert off.max() < 1e-4 and off.mean() < 2e-6, (
            name,
            off.max(),
            off.mean(),
        )  # a decay left out moves the mean by 1e-5 and more


def test_two_processes_share_every_batch():
    """Oracle: the batches of one."""
    whole = list(EpochBatches(50, 8, 2, seed=3, begin=5))
    halves = zip(
        *(EpochBatches(50, 8, 2, seed=3, begin=5, rank=rank, world=2) for rank in (0, 1)),
        strict=True,
    )
    assert [a + b for a, b in halves] == whole and len(whole[0]) == 8


def test_dropout_depends_on_seed_step_layer_and_row_alone():
    """Half of the outputs are zero, the others doubled; rows are those of the whole batch.

    Another seed, step or layer drops other outputs.
    """
    net, device = thin_net("A"), torch.device("cpu")

    def masks(rows, step=3, **more):
        return dropout_masks(
            net,
            TrainConfig(crop=32, side=(32, 32), batch=64, **more),
            step,
            torch.tensor(rows, device=device),
        )

    every = masks(range(64))
    assert all(
        mask.shape == (64, 256)
        and set(mask.unique().tolist()) == {0, 2}
        and 0.95 < mask.mean() < 1.05
        for mask in every
    )
    differ = [
        every[0],
        every[1],
        masks(range(64), seed=1)[0],
        masks(range(64), step=4)[0],
        masks(range(64), seed=2**33)[0],
    ]
    for i, one in enumerate(differ):
        assert all(0.45 < (one != other).float().mean() < 0.55 for other in differ[:i])
    assert torch.equal(masks([40, 3, 63])[1], every[1][[40, 3, 63]])
    assert masks(range(4), dropout=0.25)[0].unique().tolist() == pytest.approx([0, 4 / 3])


def test_a_first_step_that_float16_skips_leaves_no_momentum():
    """The scale starts too high on purpose: weights stay, momentum is zero.

    The first step that is taken is the plain rule's.
    """
    torch.use_deterministic_algorithms(True)  # memory that nobody filled is NaN then
    try:
        config = TrainConfig(
            arch="A",
            width=1 / 16,
            crop=32,
            side=(32, 32),
            batch=8,
            precision="fp16",
            init="he",
            dropout=0.0,
        )
        net = shape_for_training(random_net(thin_spec("A"), config), "cpu", "fp16")
        updater = Updater(net, False, config, ALONE, compiled=False)
        updater.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
        inputs = torch.from_numpy(
            np.random.default_rng(0).normal(0, 50, (8, 3, 32, 32)).astype(np.float32)
        )
        examples = Examples(inputs, torch.arange(8) % 4, torch.arange(8))
        before = {name: w.clone() for name, w in net.named_parameters()}
        skipped = 0
        for step in range(40):
            updater.step(examples, step, 8)
            if any(not torch.equal(w, before[name]) for name, w in net.named_parameters()):
                break
            skipped += 1
            assert all(
                (updater.optimiser.state[w]["momentum_buffer"] == 0).all() for w in net.parameters()
            )
        assert skipped and step < 39
        for name, w in net.named_parameters():
            momentum = updater.optimiser.state[w]["momentum_buffer"]
            torch.testing.assert_close(w, before[name] - 0.01 * momentum)
            assert momentum.isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_gradients_that_no_scale_makes_finite_end_a_run_in_float16(tmp_path):
    """The loss is finite, but every update is skipped: the weights would silently stay."""
    config = TrainConfig(
        arch="A",
        width=1 / 16,
        crop=32,
        side=(32, 32),
        batch=8,
        precision="fp16",
        init="he",
        dropout=0.0,
        epochs=1,
    )
    updater = Updater(
        shape_for_training(random_net(thin_spec("A"), config), "cpu", "fp16"),
        False,
        config,
        ALONE,
        compiled=False,
    )
    updater.net.conv1_1.weight.register_hook(lambda gradient: gradient * float("nan"))
    inputs = torch.from_numpy(
        np.random.default_rng(0).normal(0, 50, (8, 3, 32, 32)).astype(np.float32)
    )
    batches = iter([Examples(inputs, torch.arange(8) % 4, torch.arange(8))] * 40)
    state = State(images=320)
    with pytest.raises(
        CheckFailed,
        match="gradients overflow float16 again and again up to step 17 .*--precision bf16",
    ):
        training = StepTraining(updater, state, Health(4, "he", print), None)
        fit(training, batches, lambda signals: None)
