"""Accuracy measured by several processes: real ones, on the CPU, as torchrun or a scheduler starts them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from tests.support.nets import CLASSES, picture, save_net, thin_net
from tests.support.run import run
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.files import sha256

ROOT = Path(__file__).parents[3]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def start(before, *args, **environment):
    """python -m [torch.distributed.run ...] bench ..."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", *before, "bench", *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def job(count, *args):
    """Each process's exit code and what it said; nobody stops the others when one ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    places = [
        dict(zip(names, map(str, (rank, rank, count, count)), strict=True)) for rank in range(count)
    ]
    processes = [
        start([], *args, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, **place) for place in places
    ]
    said = [" ".join(process.communicate(timeout=120)[0].split()) for process in processes]
    return [process.returncode for process in processes], said


@pytest.fixture
def model(here):
    return save_net(thin_net("A"), here / "A.pt")


def spoil(data, place):
    """Make one file unreadable, named by its place in the data set: the odd ones are the second process's."""
    file = data / "val" / CLASSES[place // 6] / f"{place % 6:03d}.jpeg"
    file.write_bytes(b"\xff\xd8\xff\xe0 not really")
    return file


def counted(folder):
    """accuracy.csv without the time; calibration is a sum of rounded numbers, and batches are cut differently."""
    accuracy = pd.read_csv(folder / "accuracy.csv").drop(columns="ms_per_image")
    return accuracy.drop(columns="ece_pct"), accuracy.ece_pct


def test_two_processes_count_exactly_what_one_does(here, model, photos_copy):
    """An unreadable image in each share, 23 of 24 images, whole ones and crops, two nets."""
    spoil(photos_copy, 4), spoil(photos_copy, 9)
    args = [
        model,
        save_net(thin_net("B"), here / "B.pt"),
        "--data",
        photos_copy,
        "--scales",
        "48,64",
        "--protocols",
        "dense,ten",
        "--images",
        "23",
    ]
    args += ["--on-error", "skip", "--accuracy-batch", "4", "--measure", "accuracy"]
    process = start(
        TORCHRUN, *args, "--cells", here / "two", "--out", here / "of two", OMP_NUM_THREADS="1"
    )
    said = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 0, said
    assert (
        said.count("2 models on cpu, 2 processes, each with") == 1
        and said.count("Report:") == 1
        and said.count("Left out: ") == 2
    )
    run(vgg_bench, *args, "--cells", here / "one", "--out", here / "of one", "--threads", "1")
    (counts, ece), (counts_of_one, ece_of_one) = (
        counted(here / name) for name in ("of two", "of one")
    )
    pd.testing.assert_frame_equal(counts, counts_of_one, check_exact=True)
    assert (counts.images == 21).all() and ece.values == pytest.approx(ece_of_one.values, abs=1e-3)
    comparisons = [pd.read_csv(here / name / "comparisons.csv") for name in ("of two", "of one")]
    distances = [
        "largest_posterior_difference",
        "mean_total_variation",
    ]  # rounded apart, as batches are cut differently
    pd.testing.assert_frame_equal(
        *(table.drop(columns=distances) for table in comparisons), check_exact=True
    )
    np.testing.assert_allclose(*(table[distances] for table in comparisons), atol=1e-6)
    files = sorted(path.name for path in (here / "one").iterdir() if path.suffix == ".npy")
    assert len(files) == 16 and files == sorted(
        path.name for path in (here / "two").iterdir() if path.suffix == ".npy"
    )
    for manifest in (here / "two").glob("*.json"):  # nothing was scored twice
        told = json.loads(manifest.read_text())
        assert (told["timed"], told["machine"]["processes"], told["finished"]) == (21, 2, 21)
    for name in files:
        np.testing.assert_allclose(
            *(np.load(here / folder / name)["posterior"] for folder in ("one", "two")), atol=1e-6
        )


def test_more_processes_than_images_and_latency_by_one_alone(here, model, photos):
    args = [model, "--data", photos, "--scales", "48", "--images", "2", "--batch-sizes", "1"]
    args += ["--latency-seconds", "0.1"]
    codes, said = job(3, *args, "--cells", here / "three", "--out", here / "of three")
    assert codes == [0, 0, 0] and said[1:] == ["", ""], said
    assert len(pd.read_csv(here / "of three" / "latency.csv")) == 1
    run(
        vgg_bench,
        *args,
        "--cells",
        here / "one",
        "--out",
        here / "of one",
        "--threads",
        "1",
        "--measure",
        "accuracy",
    )
    pd.testing.assert_frame_equal(
        counted(here / "of three")[0], counted(here / "of one")[0], check_exact=True
    )


def test_two_processes_stop_where_one_does(here, model, photos):
    """Images in random order until sure: the same verdict on the same images, and no time is counted twice."""
    half = here / "half.onnx"
    artifact = Artifact(thin_net("A").spec, "uint8", "fp16", model.name, sha256(model))
    write_onnx(half, onnx_graph(thin_net("A"), artifact, PRECISIONS["fp16"]))
    data = shutil.copytree(photos / "train", here / "data" / "val").parent  # 96 images
    args = [
        model,
        half,
        "--data",
        data,
        "--scales",
        "48",
        "--no-flips",
        "--measure",
        "accuracy",
        "--min-agreement",
        "85",
        "--images",
        "auto",
    ]
    process = start(
        TORCHRUN, *args, "--cells", here / "two", "--out", here / "of two", OMP_NUM_THREADS="1"
    )
    said = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 0, said
    run(vgg_bench, *args, "--cells", here / "one", "--out", here / "of one", "--threads", "1")
    two, one = (
        json.loads((here / name / "gate.json").read_text()) for name in ("of two", "of one")
    )
    assert {**two, "run_id": ""} == {**one, "run_id": ""} and 40 <= one["images"] < 96
    for manifest in (here / "two").glob("*.json"):
        assert json.loads(manifest.read_text())["timed"] == two["images"]


def test_an_image_that_one_process_cannot_read_ends_all(here, model, photos_copy):
    bad = spoil(photos_copy, 9)
    codes, (first, second) = job(
        2, model, "--data", photos_copy, "--scales", "48", "--measure", "accuracy"
    )
    assert codes == [1, 2]
    assert f"Error: {bad}" in second and "--on-error skip" in second
    assert "Error: another process of this job ended" in first and "Traceback" not in first + second
    assert not (here / "results").exists() and list((here / "cells").glob("*.partial.npy"))


def test_what_ends_one_process_ends_the_others_with_its_code_and_is_told_once(here, model, photos):
    codes, said = job(2, here / "gone.pt", "--data", photos)
    assert codes == [2, 2] and "gone.pt: no such file" in said[0] and said[1] == ""
    other = save_net(thin_net("B"), here / "B.pt")
    codes, said = job(
        2,
        model,
        other,
        "--data",
        photos,
        "--scales",
        "48",
        "--measure",
        "accuracy",
        "--min-agreement",
        "100",
    )
    assert codes == [1, 1] and "the gate failed" in said[0] and said[1] == ""


def test_a_killed_process_ends_the_job_and_one_process_goes_on_with_its_cells(here):
    net, rng = save_net(thin_net("D", width=1 / 4), here / "D.pt"), np.random.default_rng(0)
    for i in range(120):
        path = here / "data" / "val" / CLASSES[i % 4] / f"{i:03d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(CLASSES[i % 4], rng).save(path)
    args = [
        net,
        "--data",
        here / "data",
        "--scales",
        "192",
        "--no-flips",
        "--measure",
        "accuracy",
        "--accuracy-batch",
        "1",
        "--threads",
        "1",
    ]
    process = start(TORCHRUN, *args)
    kept = wait_for_rows(here / "cells", 10)
    os.kill(worker(process.pid, rank=1), signal.SIGKILL)
    said = " ".join(process.communicate(timeout=60)[0].split())
    assert process.returncode == 1 and not (here / "results").exists()
    assert (
        "Error: stopped by SIGTERM" in said
        and "what was scored is kept in cells, the same command goes on from there" in said
    )
    before = np.load(kept)["posterior"]
    done = before.any(axis=1)
    assert 10 <= done.sum() < 120 and done[0::2].any() and done[1::2].any()
    run(vgg_bench, *args)
    (whole,) = (here / "cells").glob("*.npy")
    np.testing.assert_array_equal(np.load(whole)["posterior"][done], before[done])
    assert (pd.read_csv(here / "results" / "accuracy.csv").images == 120).all()


def wait_for_rows(folder, rows):
    """The cell, once both shares have so many rows."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = list(folder.glob("*.partial.npy"))
        if found and found[0].stat().st_size > 128:
            done = np.load(found[0], mmap_mode="r")["crc32"] != 0
            if min(done[0::2].sum(), done[1::2].sum()) >= rows / 2:
                return found[0]
        time.sleep(0.02)
    raise AssertionError("no rows appeared")


def worker(agent, rank):
    """Process id of the rank that this torchrun started."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")
