"""Names that no file can have: one sentence, with exit code 2 or as an InputError."""

import numpy as np
import pytest
from click.testing import CliRunner

import vgg_deploy as vd
from tests.support.nets import photo_of, save_net, thin_net
from tests.test_numeric_options import COMMANDS
from vgg_deploy.errors import InputError

LONG = ("x" * 300, "d/" * 3000 + "y")
LINES = (
    ("train", "--resume"),
    ("pack", "--index"),
    ("bench", "--data"),
    ("bench", "--out"),
    ("bench", ""),
    ("bench", "--against"),
    ("history", ""),
    ("export", ""),
    ("predict", ""),
    ("plot", ""),
)


@pytest.mark.parametrize("name", LONG, ids=["component", "path"])
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_name_that_is_too_long(line, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, option = line
    ended = CliRunner().invoke(COMMANDS[command], [option, name] if option else [name])
    assert ended.exit_code == 2 and isinstance(ended.exception, SystemExit)
    errors = [text for text in ended.output.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a net and one photo."""
    place = tmp_path_factory.mktemp("names")
    save_net(thin_net("A"), place / "A.pt")
    photo_of("disc", np.random.default_rng(0)).save(place / "disc.png")
    return place


CALLS = {
    "load": lambda net, name: vd.load(name),
    "classes": lambda net, name: vd.load(net, classes=name),
    "open_data": lambda net, name: vd.open_data(name),
    "predict": lambda net, name: vd.load(net, threads=1).predict(name),
    "evaluate": lambda net, name: vd.evaluate(net, name),
    "models": lambda net, name: vd.evaluate([net, name], net.parent),
    "cells": lambda net, name: vd.evaluate(net, net.parent, scales=32, cells=name, threads=1),
    "check": lambda net, name: vd.check(net, name, net.parent, min_agreement=90),
    "source": lambda net, name: vd.export(name),
    "folder": lambda net, name: vd.export(net, name, threads=1),
    "calibration": lambda net, name: vd.export(net, precision="int8", calibration=name),
}
IMPOSSIBLE = {
    "component": "x" * 300,
    "with a suffix": "x" * 300 + ".pt",
    "path": "d/" * 3000 + "y",
    "null": "a\0b",
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_impossible_name_in_python(call, name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        call(place / "A.pt", name)
    assert "\n" not in raised.value.message and len(raised.value.message) < 8000
    assert not list(tmp_path.iterdir())
