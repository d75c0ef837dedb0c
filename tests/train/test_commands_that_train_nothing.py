"""The plan of a chain, curves and views, by commands of their own and by the options of before."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from train.pack import main as pack
from train.plan import main as plan
from train.plot import main as plot
from train.views import main as views

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
THIN = options("--width 0.0625 --crop 32 --batch 16 --init he --threads 1")
CHAIN = options("--arch B --chain paper --epochs 1")
SHEET = options("--crop 32 --side 32:64 --seed 5")


def streams(command, *args) -> tuple[str, str]:
    """What a command prints to standard output and to standard error."""
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def table_of(output: str) -> str:
    """A plan without its times, which differ from run to run."""
    return re.sub(r"\d+:\d\d(:\d\d)?", "time", output)


@pytest.fixture
def chain(photos, here):
    """The folder of a chain with one of two stages trained."""
    folder = here / "chain"
    args = [*CHAIN, *THIN, "--workers", "0", "--stage", "A-256", "--data", photos, "--out", folder]
    run(train, *args)
    return folder


def test_a_plan_is_that_of_the_old_option(photos, here):
    args = [*CHAIN, *THIN, "--data", photos]
    new, _ = streams(plan, *args)
    old, advice = streams(train, *args, "--plan")
    assert table_of(new) == table_of(old) and "A-256" in new and new.count("to do") == 2
    assert "python -m train.plan" in advice and advice.count("--plan") == 1
    assert not list(here.iterdir())


def test_a_plan_of_a_started_chain(chain):
    before = {path: path.stat().st_mtime_ns for path in chain.rglob("*")}
    new = run(plan, chain, "--threads", "1")
    assert "A-256" in new and "done" in new and "to go" in new
    assert table_of(new) in table_of(
        run(train, "--resume", chain, "--plan", *options("--threads 1 --workers 0"))
    )
    assert {path: path.stat().st_mtime_ns for path in chain.rglob("*")} == before


def test_a_plan_needs_a_chain(chain, here):
    assert "add --chain paper" in run(plan, "--arch", "D", code=2)
    assert "leave the options of a recipe out" in run(plan, chain, "--lr", "0.1", code=2)
    assert "a run of one net" in run(plan, chain / "A-256", code=2)
    assert "leave --side out" in run(plan, "--chain", "paper", "--side", "64", code=2)


def test_curves_are_those_of_the_old_option(chain):
    image = chain / "A-256" / "curves.png"
    drawn = []
    for command, args in ((plot, [chain / "A-256"]), (train, ["--plot", chain / "A-256"])):
        image.unlink()
        output, advice = streams(command, *args)
        assert output == f"Curves: {image}\n"
        assert ("python -m train.plot RUN" in advice) == (command is train)
        drawn.append(image.read_bytes())
    assert drawn[0] == drawn[1]


def test_views_are_those_of_the_old_option(photos, here):
    output, advice = streams(views, "new.png", *SHEET, "--data", photos, "--threads", "1")
    assert "Views of training images, as a net gets them: new.png" in output and not advice
    old = [*SHEET, "--data", photos, "--threads", "1", "--picture", "old.png"]
    output, advice = streams(train, *old)
    assert "python -m train.views OUT.png" in advice
    assert (here / "new.png").read_bytes() == (here / "old.png").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["new.png", "old.png"]


@pytest.mark.parametrize("command", [train, plan, plot, views, pack])
def test_version(command):
    result = CliRunner().invoke(command, ["--version"], prog_name="vgg-train")
    assert result.output == f"vgg-train {version('vgg-deploy')}\n"


@pytest.mark.parametrize("module", ["plan", "plot", "views", "pack"])
def test_help_needs_no_heavy_import(module):
    code = f"import sys, train.{module}; print({{'torch', 'numpy', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


def test_it_is_called_by_the_name_it_was_started_with():
    """As the entry point vgg-train, and as python -m train."""
    for name in ("vgg-train", "python -m train"):
        result = CliRunner().invoke(train, ["--help"], prog_name=name)
        assert result.output.startswith(f"Usage: {name} [OPTIONS]")
