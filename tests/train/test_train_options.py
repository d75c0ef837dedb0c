"""Options of the training commands: values that no run could use, and what is printed against what
happens.
"""

import json
import os
from pathlib import Path

import click
import pandas as pd
import pytest

from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from train.options.option_types import Number, parse_side
from train.pack import main as pack
from train.recipe.config import INITS, TrainConfig
from train.recipe.number_ranges import RECIPE_LIMITS, NumberRange
from vgg_deploy.errors import InputError
from vgg_deploy.net import model
from vgg_deploy.sealed_json import sealed

THIN = options(
    "--arch A --width 0.0625 --crop 32 --side 32:48 --batch 16 --init he --workers 0 --threads 1"
)
ZERO_IS_FINE = {
    "--most-drops",
    "--weight-decay",
    "--bias-decay",
    "--bias-lr",
    "--dropout",
    "--shuffle-buffer",
    "--seed",
    "--workers",
}


def numeric_options(command: click.Command) -> list[str]:
    """Every option of a command whose value is a number; whatever type says so."""
    kinds = (Number, click.types.IntParamType, click.types.FloatParamType)
    return [
        p.opts[0]
        for p in command.params
        if isinstance(p, click.Option) and isinstance(p.type, kinds)
    ]


def test_the_numeric_options_are_all_found():
    assert set(numeric_options(train)) == {
        "--crop",
        "--step-patience",
        "--width",
        "--epochs",
        "--batch",
        "--micro-batch",
        "--lr",
        "--most-drops",
        "--patience",
        "--fine-tune-epochs",
        "--fine-tune-lr",
        "--weight-decay",
        "--bias-decay",
        "--bias-lr",
        "--dropout",
        "--images",
        "--shuffle-buffer",
        "--streams",
        "--seed",
        "--threads",
        "--workers",
        "--checkpoint-every",
    }
    assert set(numeric_options(pack)) == {"--images-per-shard", "--seed"}


CASES = [
    (command, option, text)
    for command in (train, pack)
    for option in numeric_options(command)
    for text in ("nan", "inf", "-inf", "-1", "0", "1e99", "", "1" + 30 * "0", "ten")
    if not (text == "0" and option in ZERO_IS_FINE)
]


@pytest.mark.parametrize(("command", "option", "text"), CASES)
def test_a_number_that_no_run_could_use_is_refused_at_its_option(
    here, own_cache, command, option, text
):
    """Before anything is opened or made: the data named here are not even there."""
    before = sorted(own_cache.rglob("*"))
    where = (
        ["--data", here / "nowhere"] if command is train else [here / "nowhere", here / "target"]
    )
    output = run(command, *where, f"{option}={text}", code=2)
    assert f"Invalid value for '{option}'" in output and "nowhere" not in output
    assert "expected a" in output or "is not a" in output
    assert not list(here.iterdir()) and sorted(own_cache.rglob("*")) == before


@pytest.mark.parametrize(
    "text", ["nan", "0", "-1", "1e99", "99999999", "64:32", "32:nan", "31", ":64", "64:"]
)
def test_an_s_that_no_run_could_use_is_refused(here, text):
    assert "Invalid value for '--side'" in run(
        train, "--data", here / "nowhere", f"--side={text}", code=2
    )


def test_s_is_read_as_written():
    assert [parse_side(None, None, text) for text in ("256", "256:512", None)] == [
        (256, 256),
        (256, 512),
        None,
    ]


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (NumberRange(1, 5), [1, 5], [0, 6, 1.5, float("nan"), True, "3", None]),
        (
            NumberRange(0, 1, whole=False, below_high=True),
            [0, 0.0, 0.999],
            [1, 1.0, -1e-9, float("inf"), float("nan")],
        ),
        (NumberRange(0, 2, whole=False, above_low=True), [1e-30, 2], [0, 2.0001, float("-inf")]),
    ],
)
def test_limits(limits, inside, outside):
    assert all(limits.fault(value) is None for value in inside)
    assert all(limits.fault(value) for value in outside)


@pytest.mark.parametrize("name", RECIPE_LIMITS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1e99])
def test_a_record_refuses_what_its_option_refuses(name, value):
    with pytest.raises(InputError, match=name.replace("_", ".")):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("rate", "message"),
    [(-1.0, "--lr -1.0 is too small"), (float("nan"), "contains NaN, not a number")],
)
@pytest.mark.slow
def test_a_damaged_config_is_named(here, photos, rate, message):
    run(train, *THIN, "--data", photos, "--epochs", "1", "--out", here / "run")
    path = here / "run" / "config.json"
    content = json.loads(path.read_text())
    content["config"]["lr"] = rate
    path.write_text(json.dumps(sealed(content)))
    assert f"{path}: {message}" in run(train, "--resume", here / "run", code=2)


def test_the_draws_have_their_names_in_one_place_more():
    """So that --help needs no PyTorch."""
    assert INITS == model.INITS


def test_the_help_has_the_defaults_of_both_recipes():
    """Oracle: the records' values, as a user types them."""
    output = run(train, "--help").replace(" ", "")  # lines are broken at hyphens, too
    for option, paper, small in (
        ("--batchINTEGER", "256", "16"),
        ("--lrFLOAT", "0.01", "0.0025"),
        ("--epochsINTEGER", "74", "14"),
        ("--sideS|LOW:HIGH", "256", "96:256"),
        ("--cropINTEGER", "224", "96"),
        ("--dropoutFLOAT", "0.5", "0"),
        ("--lr-dropsplateau|E,E", "plateau", "12,13"),
        ("--init[paper-std|paper-var|glorot|he]", "paper-std", "he"),
        ("--widthFLOAT", "1", "0.125"),
    ):
        assert (
            output.split(option)[1]
            .split("[default:")[1]
            .startswith(f"{paper};forthebuilt-inimages{small}]")
        )
    for option, both in (
        ("--patienceINTEGER", "4"),
        ("--most-dropsINTEGER", "3"),
        ("--weight-decayFLOAT", "0.0005"),
        ("--bias-lrFLOAT", "1"),
        ("--seedINTEGER", "0"),
        ("--streamsINTEGER", "16"),
        ("--shuffle-bufferINTEGER", "4096"),
    ):
        assert output.split(option)[1].split("[default:")[1].startswith(f"{both}]")


# --- the learning rate ---


def rates(folder: Path) -> list[float]:
    return pd.read_csv(folder / "metrics.csv").lr.tolist()


@pytest.mark.slow
def test_every_listed_drop_happens_and_is_printed(here, photos):
    """Oracle: powers of ten written out."""
    output = run(
        train,
        *THIN,
        *options(f"--data {photos} --epochs 6 --lr 0.001 --lr-drops 1,2,3,4 --out {here / 'run'}"),
    )
    assert "LR 0.001 divided by 10 after epochs 1, 2, 3, 4, momentum" in output
    assert rates(here / "run") == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-7], rel=1e-12)


@pytest.mark.parametrize(
    ("drops", "most"), [("plateau", "0"), ("plateau", "1"), ("1,2", "2"), ("1", None)]
)
@pytest.mark.slow
def test_what_is_printed_is_what_the_rate_does(here, photos, drops, most):
    """At LR next to nothing no epoch is better than the first, so a patience of 1 drops at every
    epoch after it.
    """
    more = [
        *(["--most-drops", most] if most else []),
        *(["--patience", "1"] if drops == "plateau" else []),
    ]
    output = run(
        train,
        *THIN,
        *options(f"--data {photos} --epochs 4 --lr 1e-20 --lr-drops {drops}"),
        *more,
        "--out",
        here / "run",
    )
    printed = {
        ("plateau", "0"): "LR 1e-20 throughout,",
        ("plateau", "1"): "LR 1e-20 divided by 10 on a plateau of 1 epoch, at most once,",
        ("1,2", "2"): "LR 1e-20 divided by 10 after epochs 1, 2,",
        ("1", None): "LR 1e-20 divided by 10 after epochs 1,",
    }[drops, most]
    assert printed in output
    drops_before = {
        ("plateau", "0"): (0, 0, 0, 0),
        ("plateau", "1"): (0, 0, 1, 1),
        ("1,2", "2"): (0, 1, 2, 2),
        ("1", None): (0, 1, 1, 1),
    }[drops, most]
    assert rates(here / "run") == pytest.approx([1e-20 / 10**n for n in drops_before], rel=1e-12)


@pytest.mark.slow
def test_drops_of_the_recipe_that_come_too_late_are_not_printed_as_drops(here):
    output = run(train, *THIN, "--epochs", "1", "--images", "32", "--out", here / "run")
    assert (
        "LR 0.0025 throughout (the recipe's drops after epochs 12, 13 come too late for 1 epoch)"
        in output
    )
    assert "divided by 10" not in output and rates(here / "run") == [0.0025]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--lr-drops=-3"], "-3 is too small, expected a whole number from 1"),
        (["--lr-drops", "0,3"], "0 is too small, expected a whole number from 1"),
        (["--lr-drops", "5,3"], "in ascending order"),
        (["--lr-drops", "3,3"], "in ascending order"),
        (["--lr-drops", "9"], "a drop after epoch 9 has no effect in a run of 9 epochs"),
        (["--lr-drops", "3,90"], "a drop after epoch 90 has no effect in a run of 9 epochs"),
        (["--lr-drops", "1,2,3,4", "--most-drops", "3"], "lists 4 drops and --most-drops allows 3"),
        (
            ["--lr-drops", "1,2", "--patience", "3"],
            "--patience makes plateaus, but the rate drops after listed epochs (1,2)",
        ),
        (["--lr-drops", "nan"], "neither `plateau` nor a list of epochs"),
        (["--lr-drops", ""], "neither `plateau` nor a list of epochs"),
        (["--lr-drops", "1e1"], "neither `plateau` nor a list of epochs"),
    ],
)
def test_drops_that_contradict_are_refused(here, given, message):
    assert message in run(train, *THIN, "--data", here / "nowhere", "--epochs", "9", *given, code=2)
    assert not list(here.iterdir())


def test_a_patience_without_plateaus_is_refused(here):
    output = run(train, *THIN, "--patience", "2", code=2)
    assert (
        "the rate drops after listed epochs (12,13)" in output
        and "add --lr-drops plateau" in output
    )


def test_drops_that_fall_together_in_a_fine_tuned_stage_are_refused(here, photos):
    thin = [option for option in THIN if option not in ("--side", "32:48")]
    chain = [
        *thin,
        *options(
            f"--arch D --chain paper --data {photos} --epochs 8 --lr-drops 5,6,7 "
            "--fine-tune-epochs 2 --plan"
        ),
    ]
    output = run(train, *chain, code=2)
    assert (
        "--lr-drops 5,6,7: in stage D-384 of 2 epochs" in output
        and "raise --fine-tune-epochs" in output
    )


# --- what the data cannot give ---


@pytest.mark.slow
def test_more_images_than_there_are_is_said(here, photos):
    output = run(
        train, *THIN, "--data", photos, "--epochs", "1", "--images", "999", "--out", here / "run"
    )
    assert (
        "--images 999: there are 96 training images; all of them are used." in output
        and "96 training and 24" in output
    )
    output = run(train, *THIN, "--images", "1000001", code=2)
    assert "there are 1000000 built-in images at most" in output


@pytest.mark.slow
def test_more_loader_processes_than_cores_are_said_in_plain_words(here, photos):
    """And PyTorch's own warning, which the tests take for an error, does not come."""
    cores = len(os.sched_getaffinity(0))
    more = ["--data", photos, "--epochs", "1", "--out", here / "run", "--workers", cores + 1]
    output = run(train, *THIN, *more)
    assert (
        f"--workers {cores + 1}: there are more loader processes than the {cores} cores" in output
    )


def test_one_class_is_refused(here, photos_copy):
    for split in ("train", "val"):
        for name in ("disc", "stripes", "triangle"):
            for file in (photos_copy / split / name).iterdir():
                file.unlink()
            (photos_copy / split / name).rmdir()
    output = run(train, *THIN, "--data", photos_copy, "--out", here / "run", code=2)
    assert (
        "has one class, square; a net needs two or more" in output and not (here / "run").exists()
    )


@pytest.mark.slow
def test_the_largest_seed_trains(here, photos):
    run(
        train,
        *THIN,
        *options(f"--data {photos} --epochs 1 --seed"),
        str(2**63 - 1),
        "--out",
        here / "run",
    )


def test_the_limit_of_processes_is_that_of_the_machine():
    cores = len(os.sched_getaffinity(0))
    output = run(train, "--workers", "100000", code=2)
    assert f"100000 is too large, expected a whole number from 0 to {max(64, 8 * cores)}" in output
