"""What the commands write outside their own folders: nothing, and no cache stops them."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.support.commands import THIN
from tests.support.nets import save_net, thin_net

ROOT = Path(__file__).parents[1]
# A user without an entry in passwd, who may read everything, as Python may lie in root's home
NOBODY = (
    *("setpriv", "--reuid=54321", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


def can_be_nobody() -> bool:
    if not shutil.which("setpriv"):
        return False
    return not subprocess.run([*NOBODY, "true"], capture_output=True).returncode


def python(here: Path, *words: object, as_user: tuple[str, ...] = (), **env: str | None) -> str:
    """Run `python -m WORDS` with an environment of its own; return its output.

    Args:
        here: Working folder.
        words: A module and its arguments.
        as_user: Words that run a command as another user.
        env: Changes; None removes a variable.
    """
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    for name in ("XDG_CACHE_HOME", "VGG_DEPLOY_CACHE", "MPLCONFIGDIR", "ORT_DISABLE_TELEMETRY"):
        merged[name] = env.get(name)
    done = subprocess.run(
        [*as_user, sys.executable, "-m", *map(str, words)],
        cwd=here,
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "Traceback" not in printed
    return printed


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_nothing_is_written_to_home(here, photos):
    """ONNX Runtime would leave a device id and a queue of events there."""
    home = here / "home"
    home.mkdir()
    checkpoint = save_net(thin_net("A"), here / "A.pt")
    python(here, "export", checkpoint, "--onnx", "--precision", "fp32,fp16", HOME=str(home))
    measured = ("--data", photos, "--scales", "32", "--threads", "1", "--latency-seconds", "0.05")
    models = ("exported/A.fp32.onnx", "exported/A.fp16.onnx")
    python(here, "bench", *models, *measured, HOME=str(home))
    assert len(pd.read_csv(here / "results" / "latency.csv")) == 4
    assert files_below(home) == []


def test_telemetry_stays_on_for_who_wants_it():
    code = "import os, vgg_deploy; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for wanted, found in ((None, "1"), ("0", "0")):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": wanted}
        env = {name: value for name, value in env.items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == found


def test_onnxruntime_is_never_imported_before_vgg_deploy():
    """At the top of a module it could come first; a function runs when its module is loaded."""
    folders = ("vgg_deploy", "train", "export", "bench", "benchmarks")
    early = []
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            early += [f"{path}" for name in names if name.partition(".")[0] == "onnxruntime"]
    assert early == []


def train_and_measure(here: Path, *data: object, **more) -> str:
    """Train for an epoch and measure the net, from the same caches; what both printed."""
    trained = ("train", "--arch", "A", *THIN, "--epochs", "1", *data, "--out", "run")
    printed = python(here, *trained, **more)
    scored = ("--scales", "32", "--measure", "accuracy", "--no-flips", "--threads", "1")
    return printed + python(here, "bench", "run/best.pt", *scored, *data, **more)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, photos):
    """The weights and errors of a run with a cache that can be written."""
    here = tmp_path_factory.mktemp("expected")
    train_and_measure(here, "--data", photos, HOME=str(here / "home"))
    return here


@pytest.fixture
def everyones():
    """A folder that every user may read; those of pytest are the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def same_results(here: Path, expected: Path) -> None:
    weights, other = (
        torch.load(folder / "run" / "best.pt", weights_only=True)["weights"]
        for folder in (here, expected)
    )
    assert all(torch.equal(weights[name], other[name]) for name in other)
    tables = [pd.read_csv(f / "results" / "accuracy.csv").top1_error_pct for f in (here, expected)]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_home_may_be_a_file(here, photos, expected):
    (here / "home").write_text("in the way")
    printed = train_and_measure(here, "--data", photos, HOME=str(here / "home"))
    assert printed.count("is not cached, so it is computed again next time") == 1
    same_results(here, expected)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.skipif(not can_be_nobody(), reason="needs root and setpriv")
@pytest.mark.parametrize("home", ["missing", "read-only"])
def test_a_users_home_may_be_missing_or_read_only(everyones, photos, expected, home):
    """As in a container with --user 54321, or with a read-only root."""
    shutil.copytree(photos, everyones / "photos").chmod(0o755)
    (everyones / "home").mkdir(mode=0o555)
    (work := everyones / "work").mkdir()
    work.chmod(0o777)
    path = None if home == "missing" else str(everyones / "home")
    data = everyones / "photos"
    printed = train_and_measure(work, "--data", data, HOME=path, as_user=NOBODY)
    if home == "read-only":
        assert printed.count("is not cached, so it is computed again next time") == 1
    else:
        assert printed.count("this user has no home folder; a temporary one is used") == 2
    same_results(work, expected)


@pytest.mark.nightly
@pytest.mark.slow
def test_built_in_images_and_features_without_a_cache(here):
    """Oracle: the same commands with a cache."""
    weights = save_net(thin_net("A", classes=tuple("abcdefghij")), here / "A.pt")
    few = ("--images", "40", "--weights", weights, "--freeze-features")
    (here / "home").write_text("in the way")
    folders = {"with": str(here / "cache"), "without": None}
    for name, cache in folders.items():
        (here / name).mkdir()
        more = {"HOME": str(here / "home"), "VGG_DEPLOY_CACHE": cache}
        words = ("train", "--arch", "A", *THIN, "--epochs", "1", *few, "--out", "run")
        printed = python(here / name, *words, **more)
        assert printed.count("the cache cannot be written") == (3 if name == "without" else 0)
    kept = [pd.read_csv(here / name / "run" / "metrics.csv") for name in folders]
    columns = ["train_loss", "val_top1_error_pct"]
    assert kept[0][columns].equals(kept[1][columns])
