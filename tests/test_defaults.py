"""Every setting has one default: the command lines' are those of the records that the code uses."""

import re
from dataclasses import fields

import click

from bench.cli import main as vgg_bench
from bench.request import GROUPS
from export.cli import main as vgg_export
from export.settings.export_options import EngineOptions, ExportOptions
from train.__main__ import main as train
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.recipe.recipe_options import RecipeOptions


def given_nothing(command: click.Command) -> dict[str, object]:
    """What a command line without options means."""
    return command.make_context(command.name, []).params


def test_export():
    params = given_nothing(vgg_export)
    params |= {
        "per_channel": params["quantize_weights"] == "per-channel",
        "flavour": params["flavour_name"],
        "distance": None if not (params["lpips"] or params["perceptual"] or params["gram"]) else 0,
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
    """The machine's options have the defaults of the settings."""
    params = given_nothing(train)
    for field in fields(RunSettings):
        if field.name in params and isinstance(field.default, int | str):
            assert params[field.name] == field.default, field.name
    assert params["arch"] == TrainConfig().arch


def test_recipe():
    """The recipe's options have no defaults of their own; a help text names the record's."""
    params, config = given_nothing(train), TrainConfig()
    options = {field.name for field in fields(RecipeOptions)}
    assert options == {name for name in params if hasattr(config, name)} - {"arch", "task"}
    assert all(params[name] is None for name in options) and RecipeOptions().given() == {}
    named = 0
    for option in train.params:
        written = re.search(r"\[default: (\d[\d.]*)\]", getattr(option, "help", None) or "")
        if option.name in options and written:
            named += 1
            assert float(written.group(1)) == getattr(config, option.name), option.name
    assert named >= 2
