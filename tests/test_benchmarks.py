"""The scripts of benchmarks/ run: a rehearsal on a thin net."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent


def test_the_gpu_benchmark_in_rehearsal(tmp_path):
    options = ["--device", "cpu", "--archs", "A", "--width", "0.0625", "--sides", "224", "--batches", "1", "--out", str(tmp_path)]
    script = [sys.executable, ROOT / "benchmarks" / "gpu_speed.py", *options]
    done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "cpu_speed.csv")
    found = set(zip(table.model, table.precision, strict=True))
    assert {("A eager NHWC", p) for p in ("fp32", "fp16", "bf16")} | {("A eager NCHW", "bf16"), ("A ONNX", "fp32"), ("A ONNX", "fp16")} <= found
    assert (table.median_ms > 0).all() and table.device_median_ms.isna().all()
    text = (tmp_path / "cpu_speed.md").read_text()
    assert "| A ONNX |" in text and '"versions"' in text
