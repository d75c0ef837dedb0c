"""Measures how well a net's descriptors transfer: `python -m train.transfer` (appendix B)."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from train.options.option_types import Number
from train.recipe.number_ranges import NumberRange
from train.transfer.request import (
    ALL,
    DEFAULT_GRID,
    JOINS,
    ONLY,
    RULES,
    SETS,
    TASKS,
    TransferRequest,
)
from vgg_deploy.command_line import Choice, Command, version_option
from vgg_deploy.errors import hints, interruptible

HINTS = {
    "features": "check --features",
    "layer": "name one with --layer",
    "annotations": "name the data set with --annotations: class folders, or Pascal VOC",
    "sets": "choose with --train-set and --test-set",
    "task": "use --task multi",
    "train_per_class": "choose another --train-per-class",
    "out": "choose another --out",
    "memory": "use --join average, a smaller --train-per-class, or fewer --features",
}
MOST_SPLITS = 1000
PER_CLASS = NumberRange(2, ALL)
MOST_VALUES = 100  # of C
C_RANGE = NumberRange(1e-9, 1e9, whole=False)
MOST_SEED = 2**31 - 1  # of liblinear


def parse_grid(
    ctx: click.Context | None, param: click.Parameter | None, text: str
) -> tuple[float, ...]:
    """Read values of C: 1,0.1,10 -> (0.1, 1.0, 10.0).

    Raises:
        click.BadParameter: If one is no number in range, or there are too many.
    """
    values = []
    for word in text.split(","):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if fault := C_RANGE.fault(number):
            shown = f"{word.strip()!r} is not {C_RANGE}" if math.isnan(number) else fault
            raise click.BadParameter(f"{shown}; write values such as 0.1,1,10")
        values.append(number)
    if len(values) > MOST_VALUES:
        raise click.BadParameter(f"{len(values)} values are more than {MOST_VALUES}")
    return tuple(sorted(set(values)))


def parse_test_images(ctx: click.Context | None, param: click.Parameter | None, text: str) -> int:
    """Read a number of test images per class: 50 -> 50, all -> ALL.

    Raises:
        click.BadParameter: If it is neither.
    """
    if text == "all":
        return ALL
    limits = NumberRange(1, ALL)
    try:
        number = int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {limits}, or all") from None
    if fault := limits.fault(number):
        raise click.BadParameter(fault)
    return number


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    examples=(
        (
            "python -m train.transfer --features caltech --task single --train-per-class 30",
            "classes of the lists of images, as Caltech-101 is measured",
        ),
        (
            "python -m train.transfer --features voc --task multi --annotations VOCdevkit/VOC2007",
            "several classes per image, as Pascal VOC",
        ),
        (
            "python -m train.transfer --features D --features E --task single",
            "two nets, their descriptors side by side",
        ),
    ),
)
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FOLDER",
    help="Features of the images. Several, of the same images, are fused by concatenation.",
)
@click.option(
    "--task",
    type=Choice(TASKS),
    required=True,
    help="single: one class per image, mean class recall. multi: average precision per class.",
)
@click.option(
    "--layer",
    help="Layer of the features.  [default: the only one; relu7, the paper's, among several]",
)
@click.option(
    "--join",
    type=Choice(JOINS),
    help="Several scales, side by side or averaged.  [default: as the features were written]",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Class folders (Caltech-101, Caltech-256) or Pascal VOC, as downloaded.  "
    "[default: the classes in the lists of images]",
)
@click.option(
    "--splits", type=Number(NumberRange(1, MOST_SPLITS)), default=3, help="single: random splits."
)
@click.option(
    "--train-per-class",
    type=Number(PER_CLASS),
    default=30,
    help="single: training images per class; the paper has 30 for Caltech-101, 60 for Caltech-256.",
)
@click.option(
    "--test-per-class",
    default="50",
    callback=parse_test_images,
    metavar="NUMBER",
    help="single: most test images per class, or all that are not for training. The paper has 50 "
    "for Caltech-101 and all for Caltech-256.",
)
@click.option(
    "--train-set",
    type=Choice(SETS),
    help="multi: images to learn from.  [default: trainval; train where test has no labels]",
)
@click.option(
    "--test-set",
    type=Choice(SETS),
    help="multi: images to score.  [default: test; val where test has no labels]",
)
@click.option(
    "--ap",
    type=Choice(RULES),
    help="multi: rule of average precision that chooses C; both are reported.  "
    "[default: 2007 for VOC2007, else 2010]",
)
@click.option(
    "--c-grid",
    default=",".join(f"{c:g}" for c in DEFAULT_GRID),
    callback=parse_grid,
    metavar="C,C,...",
    help="Values of C that are tried on a fifth of the training images.",
)
@click.option(
    "--seed",
    type=Number(NumberRange(0, MOST_SEED)),
    default=0,
    help="Of the splits, the held-out images and the SVMs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("transfer"),
    help="Folder of the results.",
)
@version_option
@click.pass_context
@hints(HINTS)
@interruptible("no results were written; start it again")
def main(ctx: click.Context, /, **options: Any) -> None:
    """Train linear SVMs on the descriptors of a net and score them on other images.

    C is chosen on a fifth of the training images. Results are tables in the folder --out, beside
    Tables 11 and 12 of the paper.
    """
    task = options["task"]
    for name, only in ONLY.items():
        given = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and only != task:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} belongs to --task {only}; leave it out")
    if task == "multi" and options["annotations"] is None:
        raise click.UsageError("--task multi needs --annotations, the folder of Pascal VOC")
    from train.transfer.command import run

    names = {field.name for field in fields(TransferRequest)}
    run(TransferRequest(**{name: value for name, value in options.items() if name in names}))


if __name__ == "__main__":
    main(prog_name="python -m train.transfer")
