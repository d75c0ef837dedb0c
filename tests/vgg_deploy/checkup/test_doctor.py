"""vgg-doctor: every runtime is really run, and a crash of one is a result."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import vgg_deploy
from bench.doctor import cli
from tests.support.run import run
from vgg_deploy.checkup import runtimes, tiny_net
from vgg_deploy.checkup.processors import int8_advice
from vgg_deploy.checkup.report import as_text
from vgg_deploy.checkup.storage import folder_bytes, free_bytes, is_writable
from vgg_deploy.checkup.trial import RUNS
from vgg_deploy.errors import InputError
from vgg_deploy.machine import available_cores
from vgg_deploy.runtimes.packages import PACKAGES

ROOT = Path(__file__).parents[3]
BROKEN = {  # packages that crash, hang in a loop, or raise when they are imported
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "error": "raise OSError('libvulkan.so.1: cannot open shared object file')",
    "exit": "import os; os._exit(7)",
}


def test_names():
    names = list(PACKAGES)
    assert list(cli.RUNTIMES) == names == list(runtimes.DEVICES) == list(RUNS)


def test_the_expected_posterior():
    """Oracle: PyTorch's functions."""
    image, (weight, bias) = (
        torch.from_numpy(tiny_net.image()),
        map(torch.from_numpy, tiny_net.weights()),
    )
    scores = F.conv2d(image, weight, bias, padding=1).relu().mean((2, 3))
    expected = torch.from_numpy(tiny_net.expected()).float()
    torch.testing.assert_close(scores.softmax(1)[0], expected)


@pytest.mark.slow
def test_installed_runtimes_work():
    names = ["torch", "onnxruntime", "openvino", "ncnn"]
    result = CliRunner().invoke(cli.main, [*names, "--json"])
    found = json.loads(result.stdout)
    on_cpu = [tried for tried in found["runtimes"] if tried["device"] == "cpu"]
    assert [tried["runtime"] for tried in on_cpu] == names
    assert [tried["state"] for tried in on_cpu] == [runtimes.WORKS] * 4, on_cpu
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["cpu"]["cores"] == available_cores()
    for name in names:
        assert f"{name} on cpu" in as_text(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("crash", "crashed by SIGSEGV"),
        ("error", "libvulkan.so.1: cannot open shared object file"),
        ("exit", "ended with exit code 7"),
    ],
)
def test_a_broken_runtime_is_a_result(here, monkeypatch, kind, reason):
    pytest.importorskip("ncnn")
    (here / "ncnn.py").write_text(BROKEN[kind])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(here), str(ROOT))))
    output = run(cli.main, "ncnn", code=1)
    assert "ncnn on cpu fails" in output and reason in output
    assert output.endswith("does not work here: ncnn; the reason stands above")


@pytest.mark.slow
def test_a_runtime_that_hangs(here, monkeypatch):
    (here / "ncnn.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(here), str(ROOT))))
    tried = runtimes.try_runtime("ncnn", "cpu", 0, longest_s=5)
    assert (tried.state, tried.reason) == (runtimes.FAILS, "gave no result within 5 s")


def test_what_is_not_here_has_a_reason():
    tried = runtimes.try_runtime("tensorrt", "cuda", 0)
    assert tried.state in (runtimes.ABSENT, runtimes.FAILS)
    assert "pip install tensorrt" in tried.reason or tried.reason == runtimes.NO_GPU


def test_devices():
    assert runtimes.devices_to_try("onnxruntime", 0, None) == ("cpu",)
    assert runtimes.devices_to_try("onnxruntime", 2, None) == ("cpu", "cuda")
    assert runtimes.devices_to_try("tensorrt", 0, None) == ("cuda",)
    assert runtimes.devices_to_try("ncnn", 1, "cuda") == ()


def test_names_that_are_wrong():
    assert "did you mean onnxruntime?" in run(cli.main, "onnxrutime", code=2)
    with pytest.raises(InputError, match="'caffe' is unknown"):
        vgg_deploy.doctor(("caffe",))
    with pytest.raises(InputError, match="ncnn does not run on cuda"):
        vgg_deploy.doctor(("ncnn",), "cuda")


@pytest.mark.parametrize(
    ("instructions", "start"),
    [
        ((), "this system does not report"),
        (("avx2", "fma"), "works, with less gain"),
        (("avx2", "avx512f", "avx512_vnni"), "fast: 8-bit dot products in hardware (avx512_vnni)"),
        (("asimd", "asimddp"), "fast: 8-bit dot products in hardware (asimddp)"),
        (("fma",), "slow"),
    ],
)
def test_int8(instructions, start):
    assert int8_advice(instructions).startswith(start)


def test_sizes(tmp_path):
    """Oracles: the bytes that were written, and `df`."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 234)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert folder_bytes(tmp_path) == 1234 and folder_bytes(tmp_path / "none") == 0
    assert is_writable(tmp_path / "new") and not is_writable(tmp_path / "a" / "one" / "new")
    if shutil.which("df"):
        words = ["df", "--output=avail", "-B1", str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        free = free_bytes(tmp_path / "not" / "made")
        assert free == pytest.approx(int(done.stdout.split()[1]), rel=0.05)


def test_version():
    done = subprocess.run(
        [sys.executable, "-m", "bench.doctor.cli", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[1] == vgg_deploy.__version__
