"""Runs that are killed, stopped, or run out of space: real processes, signals and limits."""

import os
import shutil
import signal
import subprocess
import time

import pandas as pd
import pytest
import torch

from tests.support.options import options
from tests.support.run import run
from tests.support.warm import until
from train.__main__ import main as train
from vgg_deploy.net.checkpoint import load_checkpoint

# 6 updates per epoch, dropout as the paper's
THIN = options("--width 0.0625 --crop 32 --side 32:64 --batch 16 --init he --lr 0.003 --threads 1")
RUN = ["--arch", "A", *THIN, "--epochs", "10", "--checkpoint-every", "2"]
TIMES = ["images_per_s", "elapsed_s"]


@pytest.fixture(scope="module")
def unbroken(warm, photos, tmp_path_factory):
    """The folder of a run that was not interrupted."""
    here = tmp_path_factory.mktemp("unbroken")
    training = warm.train(
        here,
        *RUN,
        *options(f"--data {photos} --workers 0 --out {here / 'run'}"),
        VGG_DEPLOY_CACHE=str(here / "cache"),
    )
    assert training.wait() == 0, training.output()
    return here / "run"


def assert_same(folder, expected):
    """Compare last.pt with its training state, best.pt and tables, bit for bit, except times."""
    one, two = (load_checkpoint(f / "last.pt") for f in (folder, expected))
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in two.weights)
    a, b = (checkpoint.training["optimiser"]["state"] for checkpoint in (one, two))
    assert b and all(torch.equal(a[i]["momentum_buffer"], b[i]["momentum_buffer"]) for i in b)
    a, b = (
        {k: v for k, v in checkpoint.training.items() if k in ("step", "errors", "tally", "images")}
        for checkpoint in (one, two)
    )
    assert a == b and a["step"] == 60
    one, two = (load_checkpoint(f / "best.pt").weights for f in (folder, expected))
    assert all(torch.equal(one[name], two[name]) for name in two)
    for table in ("metrics.csv", "steps.csv"):
        one, two = (
            pd.read_csv(f / table).drop(columns=TIMES, errors="ignore") for f in (folder, expected)
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert not list(folder.glob(".*.partial"))


def step_of(folder) -> int:
    return load_checkpoint(folder / "last.pt").training["step"]


def changed(path):
    """A function that tells whether a file has changed since now."""

    def seen():
        return path.stat().st_mtime_ns if path.exists() else 0

    before = seen()
    return lambda: seen() != before


@pytest.mark.slow
def test_killed_at_ten_moments_a_run_ends_bit_for_bit_as_if_it_had_not_been(
    warm, photos, unbroken, here
):
    """While last.pt or best.pt is written, right after, after a row of a table, between steps."""
    folder = here / "run"
    half_written = 0

    def writing(name):
        return lambda: any(folder.glob(f".{name}.*.partial"))

    def late():
        """No epoch may be the best any more; the run must not end before it is killed ten times."""
        return (folder / "metrics.csv").read_text().count("\n") > 5

    def after(seconds):
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    moments = (
        lambda: after(0.05),
        lambda: writing("last.pt"),
        lambda: changed(folder / "last.pt"),
        lambda: writing("best.pt"),
        lambda: changed(folder / "best.pt"),
        lambda: changed(folder / "metrics.csv"),
        lambda: writing("last.pt"),
        lambda: changed(folder / "steps.csv"),
        lambda: after(0.1),
        lambda: writing("last.pt"),
    )
    for count, moment in enumerate(moments):
        how = (
            ["--resume", folder]
            if (folder / "config.json").exists()
            else [*RUN, "--data", photos, "--out", folder]
        )
        training = warm.train(
            here, *how, "--checkpoint-every", "2", "--threads", "1", "--workers", str(count % 2)
        )
        until(lambda log=training.log: "Checkpoints and metrics.csv go to" in log.read_text())
        came = moment()
        until(lambda came=came: came() or late())
        training.send(signal.SIGKILL)
        assert training.wait() == -signal.SIGKILL, training.output()
        half_written += any(folder.glob(".*.partial"))
    assert half_written, "no kill met a checkpoint that was being written"
    assert 0 < step_of(folder) < 60
    training = warm.train(
        here, "--resume", folder, "--checkpoint-every", "2", "--threads", "1", "--workers", "0"
    )
    assert training.wait() == 0, training.output()
    assert_same(folder, unbroken)


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_143_also_when_the_whole_group_gets_it(
    warm, photos, unbroken, here
):
    folder = here / "run"
    training = warm.train(
        here,
        *RUN,
        *options(f"--checkpoint-every 1000 --data {photos} --out {folder} --workers 2"),
    )
    until(lambda: (folder / "best.pt").exists())
    start = time.monotonic()
    training.send_group(signal.SIGTERM)  # loader processes too
    assert training.wait() == 128 + signal.SIGTERM, training.output()
    assert time.monotonic() - start < 10
    output = training.output()
    assert f"stopped at step {step_of(folder)}; " in output and "Traceback" not in output
    assert f"; resume with: python -m train --resume {folder}" in output
    assert 6 <= step_of(folder) < 60
    training = warm.train(here, "--resume", folder, "--threads", "1", "--workers", "0")
    assert training.wait() == 0, training.output()
    assert_same(folder, unbroken)


@pytest.mark.slow
def test_a_second_sigterm_ends_at_once(warm, photos, here):
    slow = [
        "--arch",
        "A",
        *THIN,
        *options("--width 0.5 --crop 96 --side 96 --batch 96 --epochs 50 --workers 1"),
    ]
    training = warm.train(here, *slow, "--data", photos, "--out", here / "run")
    until(lambda log=training.log: "Checkpoints and metrics.csv go to" in log.read_text())
    time.sleep(0.5)
    end = time.monotonic() + 30
    while training.alive() and time.monotonic() < end:
        training.send(signal.SIGTERM)
        time.sleep(0.05)
    assert training.wait() == -signal.SIGTERM, training.output()


def failed_saving(warm, photos, folder, here, **limit) -> str:
    """Resume a run whose next checkpoint finds no space; what it prints."""
    kept = (folder / "last.pt").read_bytes()
    training = warm.train(
        here,
        *options(f"--resume {folder} --checkpoint-every 2 --threads 1 --workers 0"),
        **limit,
    )
    assert training.wait() == 2, training.output()
    assert (folder / "last.pt").read_bytes() == kept and 0 < step_of(folder) < 60
    assert not list(folder.glob(".*.partial")) and "Traceback" not in training.output()
    return training.output()


@pytest.fixture
def stopped(warm, photos, here):
    """A run with a checkpoint within an epoch, after one epoch or more."""
    training = warm.train(here, *RUN, "--data", photos, "--out", here / "run", "--workers", "0")
    until(lambda: (here / "run" / "best.pt").exists())
    training.send(signal.SIGTERM)
    assert training.wait() == 143, training.output()
    return here / "run"


@pytest.mark.slow
def test_a_file_size_limit_keeps_the_previous_checkpoint(warm, photos, unbroken, stopped, here):
    output = failed_saving(
        warm, photos, stopped, here, file_bytes=(stopped / "last.pt").stat().st_size - 10_000
    )
    assert (
        f"{stopped / 'last.pt'}: writing failed (File too large); "
        "the previous file is unchanged" in output
    )
    assert f"Free some disk space and resume with: python -m train --resume {stopped}" in output
    training = warm.train(here, "--resume", stopped, "--threads", "1", "--workers", "0")
    assert training.wait() == 0, training.output()
    assert_same(stopped, unbroken)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system of its own needs root to mount")
@pytest.mark.slow
def test_a_full_disk_keeps_the_previous_checkpoint(warm, photos, stopped, here):
    disk = here / "disk"
    disk.mkdir()
    bytes_ = (
        stopped / "last.pt"
    ).stat().st_size * 2 - 20_000  # best.pt fits beside it, a second last.pt does not
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        (stopped / "best.pt").unlink(missing_ok=True)
        shutil.copytree(stopped, disk / "run")
        assert "last.pt: writing failed (No space left on device)" in failed_saving(
            warm, photos, disk / "run", here
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_folder_has_one_training_process(warm, photos, stopped, here):
    """A loader process that lives a moment longer than a killed training does not count."""
    first = warm.train(here, "--resume", stopped, "--threads", "1", "--workers", "1")
    until(lambda: "Resuming" in first.log.read_text())
    first.send(signal.SIGSTOP)
    assert "another process is training here" in run(train, "--resume", stopped, code=2)
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = warm.train(here, "--resume", stopped, "--threads", "1", "--workers", "0")
    assert second.wait() == 0, second.output()


@pytest.mark.slow
def test_resume_alone_finds_a_run_that_was_killed_before_its_first_checkpoint(warm, photos, here):
    for name in ("old", "new"):
        training = warm.train(
            here,
            *RUN,
            *options(f"--epochs 1 --data {photos} --out {here / 'runs' / name} --workers 0"),
        )
        if name == "new":
            until(lambda log=training.log: "Checkpoints and metrics.csv go to" in log.read_text())
            training.send(signal.SIGKILL)
        assert training.wait() in (0, -signal.SIGKILL), training.output()
    (here / "runs" / "new" / "last.pt").unlink(missing_ok=True)
    output = run(train, "--resume", "--threads", "1", "--workers", "0")
    assert (
        f"{here / 'runs' / 'new'} has no checkpoint yet: starting at step 0"
        in output.replace("runs/new has", f"{here}/runs/new has")
        and "Done" in output
    )


@pytest.mark.slow
def test_another_number_of_images_is_another_run(warm, photos_copy, here):
    run(
        train, *RUN, "--epochs", "1", "--data", photos_copy, "--out", here / "run", "--workers", "0"
    )
    (photos_copy / "train" / "disc" / "000.jpeg").unlink()
    output = run(train, "--resume", here / "run", code=2)
    assert "1 removed (first: train/disc/000.jpeg)" in output
    assert f"--weights {here / 'run' / 'last.pt'}" in output


@pytest.mark.slow
def test_tables_survive_a_machine_that_stopped_within_a_line(stopped):
    """Half a line, zeros, a step that no checkpoint holds: dropped on resuming, the rest stays."""
    from train.record.run_folder import Run

    rows = Run(stopped).steps.read_text()
    assert rows.count("\n") > 1
    for rest in ("4,1,0.0", "\0\0\0\0\0", "9999,9,0.003,1.0,50.0,100.0\n", "\0,1,2,3,4,5\n"):
        Run(stopped).steps.write_text(rows + rest)
        Run(stopped).reset_to(Run(stopped).load_last()[1])
        assert Run(stopped).steps.read_text().split() == rows.split()


@pytest.mark.parametrize(
    "more",
    [
        ["--lr", "1e6"],
        ["--lr", "1e9", "--epochs", "1", "--batch", "96"],
        ["--lr", "1e6", "--batch", "48", "--checkpoint-every", "1"],
    ],
)
@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_step_rate_and_advice(photos, here, more):
    """Found by the next step's loss, at an epoch's end, before validation, or at a checkpoint."""
    output = run(
        train, *RUN, "--data", photos, "--out", here / "run", "--workers", "0", *more, code=1
    )
    assert "the loss is nan at step" in output or "validation gives no numbers at step 1 " in output
    assert f"(LR {float(more[1]):g})" in output and "Lower --lr, or choose another --init" in output
    for kept in ("last.pt", "best.pt"):
        if (here / "run" / kept).exists():
            weights = load_checkpoint(here / "run" / kept).weights
            assert all(tensor.isfinite().all() for tensor in weights.values())
    kept = (here / "run" / "last.pt").exists()
    assert ("last.pt was saved before this step and is intact" in output) == kept


@pytest.mark.parametrize("arch", ["A", "E"])
def test_the_printed_variance_diverges_and_is_reported_at_once(photos, here, arch):
    """The paper's 10^-2 as a variance: the first loss is huge, and the warning comes at once."""
    output = run(
        train,
        *RUN,
        *options(
            f"--arch {arch} --init paper-var --lr 0.01 --data {photos} "
            f"--out {here / 'run'} --workers 0"
        ),
        code=1,
    )
    assert "Warning: the first loss is" in output and "init paper-var" in output
    assert output.index("Warning") < output.index("the loss is nan") and "epoch 1/10" not in output


@pytest.mark.parametrize("init", ["paper-std", "glorot", "he"])
@pytest.mark.slow
def test_other_draws_are_not_warned_of(photos, here, init):
    output = run(
        train,
        *RUN,
        *options(f"--init {init} --epochs 1 --data {photos} --out {here / 'run'} --workers 0"),
    )
    assert "Warning: the first loss" not in output
