"""The code of docs/python.md, docs/predict.md and the notebook runs as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.predict.cli import main as vgg_predict
from tests.support.nets import save_net, thin_net
from tests.support.web import served
from tests.support.written import written_onnx
from vgg_deploy.data.built_in import CLASSES as BUILT_IN_CLASSES
from vgg_deploy.exported.metadata import content_sha256

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code of a page, block by block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def files(here, photos):
    """The files that the pages name: a checkpoint, an ONNX file, photos and a data set."""
    shutil.copytree(photos, here / "photos_by_class")
    (here / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("dog", "cat"):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(
            here / "photos" / f"{name}.jpg"
        )
    (here / "runs" / "D").mkdir(parents=True)
    (here / "exported").mkdir()
    net = save_net(thin_net("D", crop=32), here / "runs" / "D" / "best.pt")
    written_onnx(here / "exported" / "D.fp32.onnx", thin_net("D"), content_sha256(net))
    return here


@pytest.mark.slow
def test_the_page_on_python_runs(files):
    """In a process of its own, as a user runs it."""
    after = "print(verdict.verdict, tuple(image.shape)[0], len(wrong))"
    code = "\n".join([*blocks("python.md", "python"), after])
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=files, env=environment
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert printed.startswith("photos/dog.jpg\n  ")
    assert "(2, 4) (2, 4, 8, 12)" in printed and "(2, 32, 8, 12)" in printed
    assert printed.splitlines()[-1].startswith("pass 3 ")
    assert (files / "models" / "D_fp16_onnx" / "config.pbtxt").exists()
    assert len(pd.read_csv("predictions.csv")) == 8
    mentioned = set(re.findall(r"\bvd\.(\w+)", (DOCS / "python.md").read_text()))
    import vgg_deploy as vd

    assert mentioned <= set(vd.__all__)


@pytest.mark.slow
def test_the_page_on_predict_runs(files):
    lines = "".join(blocks("predict.md", "")).splitlines()
    assert len(lines) == 8
    with served(files / "photos") as address:
        for line in lines:
            command, _, stdin = line.replace("https://example.org", address).partition(" < ")
            name, *words = shlex.split(command)
            assert name == "vgg-predict"
            content = Path(stdin.strip()).read_bytes() if stdin else None
            result = CliRunner().invoke(vgg_predict, words, input=content)
            assert result.exit_code == 0, f"{line}\n{result.output}"
    assert {path.name for path in files.glob("predictions.*")} == {
        "predictions.csv",
        "predictions.jsonl",
        "predictions.parquet",
    }
    assert len(list((files / "maps").glob("*.png"))) == 2


@pytest.mark.slow
def test_the_notebook_runs_and_has_results(files):
    """Its cells run in order, on nets that are not trained; the stored results are of others."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    (files / "runs" / "A").mkdir()
    for arch in ("A", "D"):
        save_net(thin_net(arch, classes=BUILT_IN_CLASSES), files / "runs" / arch / "best.pt")
    notebook = json.loads((DOCS / "notebooks" / "error_against_compute.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    space = {}
    for cell in cells:
        code = "".join(cell["source"]).replace('built_in("val", 300)', 'built_in("val", 24)')
        exec(compile(code, "notebook", "exec"), space)
        assert cell["outputs"] and not any(one["output_type"] == "error" for one in cell["outputs"])
    table = space["table"]
    assert table.gmacs_per_image.is_monotonic_increasing and len(table) == 2 * 4 * (3 + 3)
    front = space["front"]
    assert front.top1_error_pct.is_monotonic_decreasing
    assert front.top1_error_pct.min() == table.top1_error_pct.min()
    assert (space["wrong"].label != space["wrong"].best).all()
