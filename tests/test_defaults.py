"""Every setting has one default: the command lines' are those of the records that the code uses."""

import re
from dataclasses import fields

from bench.cli import main as vgg_bench
from bench.request import GROUPS
from export.cli import main as vgg_export
from export.settings.export_options import EngineOptions, ExportOptions
from train.__main__ import main as train
from train.recipe.config import TrainConfig
from train.session import RunSettings


def given_nothing(command) -> dict:
    """What a command line without options means."""
    return command.make_context(command.name, []).params


def test_export():
    params = given_nothing(vgg_export)
    params |= {
        "per_channel": params["quantize_weights"] == "per-channel",
        "flavour": params["flavour_name"],
    }
    for record in (ExportOptions(), EngineOptions()):
        for field in fields(record):
            expected = getattr(record, field.name)
            assert params[field.name] == expected, field.name


def test_bench():
    """Each field of the request's groups is an option, and each option is in one group."""
    params = given_nothing(vgg_bench)
    named = [field.name for group in GROUPS for field in fields(group)]
    assert sorted(named) == sorted(params)


def test_train():
    """Options of the recipe have none of their own; a help text names the record's."""
    params, config, named = given_nothing(train), TrainConfig(), 0
    machine = {field.name: field.default for field in fields(RunSettings)}
    for option in train.params:
        if (
            option.name in machine
            and params[option.name] is not None
            and isinstance(machine[option.name], int | str)
        ):
            assert params[option.name] == machine[option.name], option.name
        if not hasattr(config, option.name):
            continue
        if option.name != "arch":
            assert params[option.name] is None, option.name
        written = re.search(r"\[default: (\d[\d.]*)\]", option.help or "")
        if written:
            named += 1
            assert float(written.group(1)) == getattr(config, option.name), option.name
    assert params["arch"] == config.arch and named >= 2
