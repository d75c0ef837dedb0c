"""Accuracy measured by several real processes on the CPU, started as torchrun does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from tests.support.cells import wait_for_rows
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.files import sha256

ROOT = Path(__file__).parents[3]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def start(before, *args, **environment):
    """Start `python -m BEFORE bench ARGS`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", *before, "bench", *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_job(count, *args):
    """Exit codes and outputs of the processes; nothing stops the others when one ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(count):
        environment = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
        }
        processes.append(start([], *args, **environment))
    outputs = [output_of(process, timeout=120) for process in processes]
    return [process.returncode for process in processes], outputs


def output_of(process, timeout):
    """What a process printed until it ended, with single spaces."""
    return " ".join(process.communicate(timeout=timeout)[0].split())


def flat(options):
    """Options and their values as arguments."""
    return [part for option in options.items() for part in option]


@pytest.fixture
def model(here):
    return save_net(thin_net("A"), here / "A.pt")


def damage_image(data, index):
    """Make an image unreadable; those with an odd index belong to the second process."""
    file = data / "val" / CLASSES[index // 6] / f"{index % 6:03d}.jpeg"
    file.write_bytes(b"\xff\xd8\xff\xe0 not really")
    return file


def counted(folder):
    """accuracy.csv without the times, and its calibration errors.

    The latter are sums of rounded numbers, and batches are cut differently.
    """
    accuracy = pd.read_csv(folder / "accuracy.csv").drop(columns="ms_per_image")
    return accuracy.drop(columns="ece_pct"), accuracy.ece_pct


@pytest.mark.slow
def test_two_processes_count_exactly_what_one_does(here, model, photos_copy):
    """An unreadable image in each share, 23 of 24 images, whole ones and crops, two nets."""
    damage_image(photos_copy, 4)
    damage_image(photos_copy, 9)
    options = {
        "--data": photos_copy,
        "--scales": "48,64",
        "--protocols": "dense,ten",
        "--images": 23,
        "--on-error": "skip",
        "--accuracy-batch": 4,
        "--measure": "accuracy",
    }
    args = [model, save_net(thin_net("B"), here / "B.pt"), *flat(options)]
    process = start(
        TORCHRUN, *args, "--cells", here / "two", "--out", here / "of two", OMP_NUM_THREADS="1"
    )
    output = output_of(process, timeout=120)
    assert process.returncode == 0, output
    assert output.count("2 models on cpu, 2 processes, each with") == 1
    assert output.count("Report:") == 1 and output.count("Left out: ") == 2
    run(vgg_bench, *args, "--cells", here / "one", "--out", here / "of one", "--threads", "1")
    (counts, ece), (counts_of_one, ece_of_one) = (
        counted(here / name) for name in ("of two", "of one")
    )
    pd.testing.assert_frame_equal(counts, counts_of_one, check_exact=True)
    assert (counts.images == 21).all() and ece.values == pytest.approx(ece_of_one.values, abs=1e-3)
    comparisons = [pd.read_csv(here / name / "comparisons.csv") for name in ("of two", "of one")]
    # rounded differently, as batches are cut differently
    distances = ["largest_posterior_difference", "mean_total_variation"]
    pd.testing.assert_frame_equal(
        *(table.drop(columns=distances) for table in comparisons), check_exact=True
    )
    np.testing.assert_allclose(*(table[distances] for table in comparisons), atol=1e-6)
    files = sorted(path.name for path in (here / "one").iterdir() if path.suffix == ".npy")
    assert len(files) == 16
    assert files == sorted(path.name for path in (here / "two").iterdir() if path.suffix == ".npy")
    for manifest in (here / "two").glob("*.json"):  # nothing was scored twice
        cell = json.loads(manifest.read_text())
        assert (cell["timed"], cell["machine"]["processes"], cell["finished"]) == (21, 2, 21)
    for name in files:
        np.testing.assert_allclose(
            *(np.load(here / folder / name)["posterior"] for folder in ("one", "two")), atol=1e-6
        )


@pytest.mark.nightly
@pytest.mark.slow
def test_more_processes_than_images_and_latency_by_one_alone(here, model, photos):
    args = [model, "--data", photos, "--scales", "48", "--images", "2", "--batch-sizes", "1"]
    args += ["--latency-seconds", "0.1"]
    codes, outputs = run_job(3, *args, "--cells", here / "three", "--out", here / "of three")
    assert codes == [0, 0, 0] and outputs[1:] == ["", ""], outputs
    assert len(pd.read_csv(here / "of three" / "latency.csv")) == 1
    args += ["--threads", "1", "--measure", "accuracy"]
    run(vgg_bench, *args, "--cells", here / "one", "--out", here / "of one")
    (of_three, _), (of_one, _) = counted(here / "of three"), counted(here / "of one")
    pd.testing.assert_frame_equal(of_three, of_one, check_exact=True)


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_stop_where_one_does(here, model, photos):
    """Images in random order until the gate is sure: the same verdict on the same images.

    No time is counted twice.
    """
    half = here / "half.onnx"
    artifact = Artifact(thin_net("A").spec, "uint8", "fp16", model.name, sha256(model))
    write_onnx(half, onnx_graph(thin_net("A"), artifact, PRECISIONS["fp16"]))
    data = shutil.copytree(photos / "train", here / "data" / "val").parent  # 96 images
    options = {
        "--data": data,
        "--scales": 48,
        "--measure": "accuracy",
        "--min-agreement": 85,
        "--images": "auto",
    }
    args = [model, half, "--no-flips", *flat(options)]
    process = start(
        TORCHRUN, *args, "--cells", here / "two", "--out", here / "of two", OMP_NUM_THREADS="1"
    )
    output = output_of(process, timeout=120)
    assert process.returncode == 0, output
    run(vgg_bench, *args, "--cells", here / "one", "--out", here / "of one", "--threads", "1")
    two, one = (
        json.loads((here / name / "gate.json").read_text()) for name in ("of two", "of one")
    )
    assert {**two, "run_id": ""} == {**one, "run_id": ""} and 40 <= one["images"] < 96
    for manifest in (here / "two").glob("*.json"):
        assert json.loads(manifest.read_text())["timed"] == two["images"]


@pytest.mark.nightly
@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_ends_all(here, model, photos_copy):
    bad = damage_image(photos_copy, 9)
    args = [model, "--data", photos_copy, "--scales", "48", "--measure", "accuracy"]
    codes, (first, second) = run_job(2, *args)
    assert codes == [1, 2]
    assert f"Error: {bad}" in second and "--on-error skip" in second
    assert "Error: another process of this job ended" in first and "Traceback" not in first + second
    assert not (here / "results").exists() and list((here / "cells").glob("*.partial.npy"))


@pytest.mark.slow
@pytest.mark.nightly
def test_an_error_ends_all_processes_with_its_code_and_is_reported_once(here, model, photos):
    codes, (main, other) = run_job(2, here / "gone.pt", "--data", photos)
    assert codes == [2, 2] and "gone.pt: no such file" in main and other == ""
    second = save_net(thin_net("B"), here / "B.pt")
    args = ["--data", photos, "--scales", "48", "--measure", "accuracy", "--min-agreement", "100"]
    codes, (main, other) = run_job(2, model, second, *args)
    assert codes == [1, 1] and "the gate failed" in main and other == ""


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_one_process_resumes_its_cells(here):
    net, rng = save_net(thin_net("D", width=1 / 4), here / "D.pt"), np.random.default_rng(0)
    for i in range(120):
        path = here / "data" / "val" / CLASSES[i % 4] / f"{i:03d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo_of(CLASSES[i % 4], rng).save(path)
    options = {
        "--data": here / "data",
        "--scales": 192,
        "--measure": "accuracy",
        "--accuracy-batch": 1,
        "--threads": 1,
    }
    args = [net, "--no-flips", *flat(options)]
    process = start(TORCHRUN, *args)
    kept = wait_for_rows(here / "cells", 10, processes=2)
    os.kill(worker(process.pid, rank=1), signal.SIGKILL)
    output = output_of(process, timeout=60)
    assert process.returncode == 1 and not (here / "results").exists()
    assert "Error: stopped by SIGTERM" in output
    assert "scored images are kept in cells; the same command" in output
    before = np.load(kept)["posterior"]
    finished = before.any(axis=1)
    assert 10 <= finished.sum() < 120 and finished[0::2].any() and finished[1::2].any()
    run(vgg_bench, *args)
    (complete,) = (here / "cells").glob("*.npy")
    np.testing.assert_array_equal(np.load(complete)["posterior"][finished], before[finished])
    assert (pd.read_csv(here / "results" / "accuracy.csv").images == 120).all()


def worker(agent, rank):
    """Process id of the rank that this torchrun started."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")
