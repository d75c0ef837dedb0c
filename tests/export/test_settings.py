"""Settings check themselves, and names that stand twice agree."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from export.settings.export_options import (
    PRECISION_NAMES,
    PROFILE_NAMES,
    EngineOptions,
    ExportOptions,
)
from export.settings.precision import PRECISIONS
from export.tensorrt.profiles import PROFILE_RULES
from export.tensorrt.targets import LEAST
from vgg_deploy.command_line import split_known_names, split_names, split_whole_numbers
from vgg_deploy.errors import InputError


def test_names_agree_with_the_tables():
    """They stand twice so that --help imports nothing heavy."""
    assert tuple(PRECISIONS) == PRECISION_NAMES
    assert tuple(PROFILE_RULES) == PROFILE_NAMES
    assert set(LEAST) == set(PRECISIONS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precisions": ()}, "no precision is named; choose from fp32"),
        ({"precisions": ("fp32", "fp4")}, "precision 'fp4' is unknown; choose from fp32, fp16"),
        ({"form": "bgr"}, "input form 'bgr' is unknown; choose from uint8"),
        ({"method": "mean"}, "calibration method 'mean' is unknown; choose from max"),
        ({"on_error": "ask"}, "on_error 'ask' is unknown; choose from stop, skip"),
        ({"calibration_images": 1}, "1 calibration images are too few"),
        ({"max_cost": 0.0}, "max_cost 0.0 is not a percentage"),
        ({"max_cost": float("nan")}, "max_cost nan is not a percentage"),
    ],
)
def test_export_options_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        ExportOptions(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flavour": "lite"}, "TensorRT flavour 'lite' is unknown; choose from tensorrt, rtx"),
        ({"profiles": "one"}, "profile rule 'one' is unknown; choose from per-scale"),
        ({"max_batch": 0}, "a largest batch of 0 is too small"),
    ],
)
def test_engine_options_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        EngineOptions(**settings)


def test_lists_of_a_command_line():
    assert split_names(" fc8,conv1_1,,fc8") == ("fc8", "conv1_1")
    assert split_names("") == ()
    assert split_known_names("fp16,fp32", PRECISION_NAMES) == ("fp16", "fp32")
    with pytest.raises(click.BadParameter, match="'fp4' is unknown; choose from fp32, fp16"):
        split_known_names("fp32,fp4", PRECISION_NAMES)
    assert split_whole_numbers("384, 256,384", "1,8", 384) == (256, 384)
    for text in ("", "1,", "1.5", "big"):
        with pytest.raises(click.BadParameter, match="not a list of whole numbers; write 1,8"):
            split_whole_numbers(text, "1,8", 8)
    with pytest.raises(click.BadParameter, match="0 is out of range; write numbers from 1 to 8"):
        split_whole_numbers("8,0", "1,8", 8)


def test_the_command_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "export", "--version"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("python -m export "), done.stderr
