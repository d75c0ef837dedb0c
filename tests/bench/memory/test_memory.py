"""Memory of a model's process: against what the system says of it from outside, and the files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from bench.memory.child import memory_mib
from bench.memory.measure import PROCESSES, measure_memory
from bench.models.model import ModelOptions, open_models
from bench.report.schema import MEMORY
from export.python import export
from tests.bench.report.test_schema import check_values
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.errors import CheckFailed

ROOT = Path(__file__).parents[3]


def measured(path, sides=(48,), batches=(1,)):
    return measure_memory(open_models([path], ModelOptions()), lambda model: sides, batches)[0]


def test_the_peak_is_what_the_kernel_says_of_the_process(tmp_path):
    """Oracle: VmHWM read by another process while the child waits at its end."""
    path = written_onnx(tmp_path / "A.onnx", thin_net("A"))
    job = {
        "path": str(path), "device": "cpu", "threads": 1, "runtime": "onnxruntime",
        "precision": "fp32", "stated": {}, "cuda_graphs": False, "whole_images": False,
        "outputs": ["posterior", "score_map"], "sizes": [[48, 1], [96, 4]],
    }  # fmt: skip
    code = (
        "import sys, io, json\n"
        "sys.stdin, waiting = io.StringIO(sys.argv[1]), sys.stdin\n"
        "from bench.memory.child import main\n"
        "main(); sys.stdout.flush(); waiting.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    seen = json.loads(process.stdout.readline())
    status = Path(f"/proc/{process.pid}/status")
    assert seen["peak_mib"][-1] == pytest.approx(memory_mib("VmHWM", status), abs=1)
    assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
    process.communicate()
    assert seen["libraries_mib"] < seen["peak_mib"][0] <= seen["peak_mib"][1]


@pytest.mark.slow
def test_a_larger_file_and_larger_images_take_what_they_must(tmp_path):
    """Weights that are 7 MB larger, and a batch whose first activations take 3 MB more."""
    thin = written_onnx(tmp_path / "thin.onnx", thin_net("A"))
    wide = written_onnx(tmp_path / "wide.onnx", thin_net("A", width=1 / 4))
    more_mib = (wide.stat().st_size - thin.stat().st_size) / 2**20
    assert more_mib > 5
    small, large = measured(thin, (48, 160), (1, 8)), measured(wide)
    assert large.rows[0].peak_mib - small.rows[0].peak_mib > more_mib
    sizes = [(row.height_px, row.batch) for row in small.rows]
    assert sizes == [(48, 1), (48, 8), (160, 1), (160, 8)]  # by their number of pixels
    peaks = [row.peak_mib for row in small.rows]
    assert peaks == sorted(peaks) and peaks[-1] - peaks[0] > 8 * 4 * 160**2 * 4 / 2**20
    last = small.rows[-1]
    assert last.processes == PROCESSES == len(small.peaks)
    assert last.peak_mib == pytest.approx(small.peaks.mean())
    assert last.highest_mib == small.peaks.max() and np.isnan(last.device_mib)
    assert last.peak_low_mib <= last.peak_mib <= last.peak_high_mib


def test_a_file_that_is_gone_is_one_sentence(tmp_path):
    path = written_onnx(tmp_path / "A.onnx", thin_net("A"))
    models = open_models([path], ModelOptions())
    path.unlink()
    with pytest.raises(CheckFailed, match="its memory was not measured"):
        measure_memory(models, lambda model: (48,), (1,))


def bench(here, *args, code=0):
    words = ["--scales", "48", "--batch-sizes", "1", "--threads", "1", *args]
    return run(vgg_bench, *words, code=code)


@pytest.mark.slow
def test_the_table_and_the_limit(here):
    """A limit below and one above: with one model, and without images."""
    net = written_onnx(here / "A.onnx", thin_net("A"))
    size = net.stat().st_size / 1e6
    limits = ("--max-memory", 20, "--max-size", 2 * size)
    text = bench(here, net, "--measure", "memory", *limits, code=1)
    assert "FAIL A.onnx, peak memory (48 x 48, batch 1): a process that opens it" in text
    assert "Gate: fail. 1 of 2 checks failed." in text
    table = pd.read_csv("results/memory.csv")
    check_values(MEMORY, table)
    found = json.loads(Path("results/gate.json").read_text())
    checks = {check["check"]: check for check in found["checks"]}
    assert checks["peak memory"]["found"] == pytest.approx(table.peak_mib.iloc[-1])
    assert checks["peak memory"]["low"] > 20 and checks["size"]["verdict"] == "pass"
    assert found["limits"]["memory"] == 20 and found["images"] == 0
    page = Path("results/report.html").read_text()
    assert "Files and memory" in page and "allowed 20 MiB" in page
    assert 'failures="1"' in Path("results/gate.xml").read_text()
    text = bench(
        here, net, "--measure", "memory", "--max-memory", 2000, "--max-size", size / 2, code=1
    )
    assert f"size: its files have {size:.6g} MB, allowed {size / 2:g} MB" in text
    assert "Gate: fail. 1 of 2 checks failed." in text


@pytest.mark.parametrize(
    "interface", [{"whole_images": 48}, {"fixed_shape": (2, 48, 48), "logits": True}]
)
def test_files_of_another_interface_are_called_with_what_they_take(tmp_path, interface):
    (exported,) = export(save_net(thin_net("A"), tmp_path / "A.pt"), tmp_path / "out", **interface)
    found = measured(exported.path, batches=(1, 8))
    batches = [row.batch for row in found.rows]
    assert batches == ([1, 8] if "whole_images" in interface else [2])
    assert all(row.peak_mib > row.libraries_mib for row in found.rows)
