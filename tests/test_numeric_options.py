"""Numbers given to the options of all commands: within bounds, or one sentence and exit code 2.

The options are found by walking click's parameters, so an option that is added is tested too.
Oracle: no value here is a number that any option can use.
"""

from collections.abc import Iterator

import click
import pytest

from bench.cli import main as bench
from bench.doctor.cli import main as doctor
from bench.features.cli import main as features
from bench.history.cli import main as history
from bench.option_types import Names
from bench.predict.cli import main as predict
from export.cli import main as export
from train import pack, plan, plot, views
from train.__main__ import main as train
from vgg_deploy.net.weights_names import WEIGHTS

COMMANDS = {
    "train": train,
    "pack": pack.main,
    "plan": plan.main,
    "plot": plot.main,
    "views": views.main,
    "export": export,
    "bench": bench,
    "history": history,
    "predict": predict,
    "features": features,
    "doctor": doctor,
}
NO_NUMBERS = (click.Choice, click.Path, type(WEIGHTS), Names)
# Options of free text: names, folders, patterns
TEXT = {
    "--stage", "--resume", "--train", "--val", "--keep", "--target", "--protocols", "--fuse",
    "--classes", "--gate-rows", "--name", "--features", "--layers",
}  # fmt: skip
VALUES = (
    "nan", "inf", "-inf", "1e400", "9" * 20, "9" * 6000, "-" + "9" * 20, "-1", "1" * 12, "x", " ",
    "nan,nan,nan", "inf,1,1", "1e300,1,1", "9" * 20 + ",1,1", "64," + "9" * 20, "64:" + "9" * 20,
)  # fmt: skip
GOOD = {"--seed": {"1" * 12}}  # seeds have 63 bits


def numeric_options() -> Iterator[tuple[str, str]]:
    """(command, option) of all options that take numbers."""
    for name, command in COMMANDS.items():
        for option in command.params:
            flag = option.opts[0]
            no_value = not isinstance(option, click.Option) or option.is_flag or option.count
            if not no_value and not isinstance(option.type, NO_NUMBERS) and flag not in TEXT:
                yield name, flag


def test_the_walk_finds_the_options():
    found = set(numeric_options())
    assert {("train", "--lr"), ("bench", "--scales"), ("predict", "--batch")} <= found
    assert len(found) > 60


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:24])
def test_every_numeric_option_refuses(value):
    faults = []
    for name, flag in numeric_options():
        if value in GOOD.get(flag, ()):
            continue
        try:
            with COMMANDS[name].make_context(name, [f"{flag}={value}"]) as context:
                faults.append((name, flag, context.params))
        except click.UsageError as error:
            message = error.format_message()
            if error.exit_code != 2 or len(message.splitlines()) != 1 or flag not in message:
                faults.append((name, flag, message))
    assert not faults
