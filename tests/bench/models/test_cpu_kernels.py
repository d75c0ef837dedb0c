"""A file whose integer kernels are wrong on this CPU has a fault in the bench, and no rows."""

import json

import pandas as pd
import pytest

from bench.accuracy import cell_manifest
from bench.cli import main as vgg_bench
from export.release import export_onnx
from export.settings.export_options import ExportOptions
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.runtimes import integer_kernels as arithmetic


@pytest.mark.slow
def test_wrong_kernels_fail_the_gate(here, photos, monkeypatch):
    """One value of one output is changed by two levels, as a wrong kernel would."""
    source = save_net(thin_net(), here / "A.pt")
    wanted = ExportOptions(("fp32", "int8-cpu"), calibration=str(photos))
    files = [e.path for e in export_onnx(source, here / "out", wanted, None, 1, lambda line: None)]
    args = [source, *files, "--data", photos, "--scales", "32", "--threads", "1"]
    args += ["--measure", "accuracy", "--max-top1-drop", "100"]
    right = arithmetic._found

    def wrong(*args):
        values = right(*args)
        values["0.levels"][0, 0, 0, 0] ^= 2
        return values

    monkeypatch.setattr(arithmetic, "_found", wrong)
    for _ in range(2):  # what is wrong is not stored: the second run has all cells and checks again
        said = run(vgg_bench, *args, code=1)
        assert "int8-cpu.onnx: ONNX Runtime's 8-bit kernels for this CPU" in said
        checks = json.loads((here / "results" / "gate.json").read_text())["checks"]
        failed = {c["model"] for c in checks if c["verdict"] == "fail"}
        assert failed == {"A.int8-cpu.onnx"}
        assert set(pd.read_csv(here / "results" / "accuracy.csv").model) == {"A.pt", "A.fp32.onnx"}
    monkeypatch.setattr(arithmetic, "_found", right)
    run(vgg_bench, *args)
    monkeypatch.setattr(arithmetic, "_found", wrong)
    run(vgg_bench, *args)  # found right on such a CPU
    monkeypatch.setattr(cell_manifest, "cpu_model", lambda: "another CPU")
    run(vgg_bench, *args, code=1)
