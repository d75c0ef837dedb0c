"""Defines the options that several training commands share, in groups."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from train.options.option_types import Number, NumberOrAuto, parse_drops, parse_side, recipe_option
from train.recipe.config import CLASSIFY, INITS, PRECISIONS, TASKS, TRAIN_SCENES
from train.recipe.number_ranges import IMAGES, MICRO_BATCH, RECIPE_LIMITS, processes
from train.recipe.stages import CHAINS
from vgg_deploy.command_line import Choice
from vgg_deploy.machine import available_cores
from vgg_deploy.near_misses import LAYERS_OF_NETS
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.box_outputs import BOX_COORDINATES, BOX_FORM_NAMES, BOX_OUTPUTS

F = TypeVar("F", bound=Callable[..., Any])
CORES = available_cores()


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that adds several options, in this order in the help."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


net_options = together(
    click.option(
        "--arch",
        default="D",
        type=Choice((*ARCHS, "all"), LAYERS_OF_NETS),
        help="Net of Table 1, or all of them.",
    ),
    click.option(
        "--chain",
        type=Choice(tuple(CHAINS)),
        help="Train in stages that start from each other: paper, section 3.1 at S=256, 384 and "
        "[256;512]; glorot, the same without an A first; one-scale, A and the others from it.  "
        "[default for all: one-scale]",
    ),
    click.option(
        "--stage",
        metavar="STAGE",
        help="Of the chain: only this one, e.g. D-384; it starts from what is trained already.",
    ),
)

fine_tune_options = together(
    click.option(
        "--fine-tune-epochs",
        type=Number(RECIPE_LIMITS["epochs"]),
        help="Epochs of a chain's stages at 384 and jitter.  [default: half of --epochs]",
    ),
    click.option(
        "--fine-tune-lr",
        type=Number(RECIPE_LIMITS["lr"]),
        help="First learning rate of these stages.  [default: a tenth of --lr]",
    ),
)


def data_option(when_resumed: str = "") -> Callable[[F], F]:
    """The option --data.

    Args:
        when_resumed: What it means for a run or chain that was started before.
    """
    data = "Folder with train/<class>/* and val/<class>/*, or tar shards"
    return click.option(
        "--data",
        type=click.Path(),
        help=f"{data}{when_resumed}.  [default: built-in images]",
    )


images_option = click.option(
    "--images",
    type=Number(IMAGES),
    help="Use this many training images, spread evenly (built-in: render this many).  "
    f"[default: all; for the built-in images {TRAIN_SCENES}]",
)

side_option = recipe_option(
    "--side",
    callback=parse_side,
    metavar="S|LOW:HIGH",
    help="S, the shorter image side in training, pixels.",
)
crop_option = recipe_option("--crop", help="Training crop, pixels, a multiple of 32.")
seed_option = recipe_option("--seed", help="Of weights, order, augmentation and dropout.")

recipe_options = together(
    recipe_option(
        "--init",
        type=Choice(INITS),
        help="Initialisation of random layers. If given, B-E do not start from the newest A.",
    ),
    side_option,
    crop_option,
    recipe_option("--width", help="Multiplier of every layer's channels."),
    recipe_option(
        "--lrn",
        type=Choice(("alexnet", "caffe")),
        help="A-LRN: alpha as in AlexNet's formula, or divided by the window.",
    ),
    recipe_option("--epochs", help="Passes over the training images."),
    recipe_option("--batch", help="Images per update, over all processes."),
    click.option(
        "--micro-batch",
        type=NumberOrAuto(MICRO_BATCH),
        metavar="N|auto",
        help="Images at once within an update, per process: the same update in parts, whose "
        "gradients add up. auto: what fits into the free memory. Both halve it when memory runs "
        "out.  [default: the whole batch]",
    ),
    recipe_option("--lr", help="First learning rate."),
    recipe_option(
        "--lr-drops",
        callback=parse_drops,
        metavar="plateau|E,E",
        help="When the rate is divided by 10: on a plateau, or after each of these epochs.",
    ),
    recipe_option("--most-drops", help="Most divisions by 10 on plateaus."),
    recipe_option(
        "--patience", help="Epochs without a better validation top-1 error that make a plateau."
    ),
    recipe_option(
        "--weight-decay", help="L2 penalty on weights: this times w is added to the gradient."
    ),
    recipe_option("--bias-decay", help="L2 penalty on biases, likewise."),
    recipe_option("--bias-lr", help="Learning rate of biases, as a multiple of that of weights."),
    recipe_option("--dropout", help="Share of fc6's and fc7's outputs set to zero in each update."),
    recipe_option(
        "--precision",
        type=Choice(PRECISIONS),
        help="Of convolutions and products; weights and updates stay float32.",
    ),
    recipe_option(
        "--shuffle-buffer",
        help="Tar shards: images held in memory to shuffle from, over all processes and --streams.",
    ),
    recipe_option(
        "--streams",
        help="Tar shards: parts of the data read at the same time, over all processes; "
        "divides --batch.",
    ),
    seed_option,
)

localise_options = together(
    click.option(
        "--task",
        default=CLASSIFY,
        type=Choice(TASKS),
        help="classify: score classes; localise: state the boxes of objects (appendix A), from the "
        "classification net of --weights.",
    ),
    click.option(
        "--boxes",
        type=click.Path(),
        metavar="ANNOTATIONS",
        help="Localise: where the objects of --data are: folder of Pascal VOC's or ILSVRC's XML "
        "files, or a table image,class,xmin,ymin,xmax,ymax (.csv).",
    ),
    click.option(
        "--box-coordinates",
        type=Choice(BOX_COORDINATES),
        help="Of --boxes: voc, numbers of pixels from 1, the last one inside; edges, from 0, as "
        "ILSVRC.  [default: voc]",
    ),
    click.option(
        "--box-outputs",
        type=Choice(BOX_OUTPUTS),
        help="Localise: one box for all classes, or one for each.  [default: per-class]",
    ),
    click.option(
        "--box-form",
        type=Choice(BOX_FORM_NAMES),
        help="Localise: what a net says of a box, relative to its window: centre, width and "
        "height, or the four edges.  [default: centre]",
    ),
)

exif_option = click.option(
    "--exif",
    default="ignore",
    type=Choice(("ignore", "apply")),
    help="What to do with the EXIF rotation of the images of --data.",
)
device_option = click.option(
    "--device", type=Choice(("cpu", "cuda")), help="[default: cuda if there is one]"
)
threads_option = click.option(
    "--threads",
    type=Number(processes(CORES, 1)),
    help="CPU threads, and as many processes that decode for validation.  "
    "[default: this process's share of the cores]",
)
workers_option = click.option(
    "--workers",
    type=Number(processes(CORES, 0)),
    help="Loader processes per process.  [default: as --threads]",
)
on_error_option = click.option(
    "--on-error",
    type=Choice(("stop", "skip")),
    default="stop",
    help="Stop at an unreadable image, or skip it, name it and count it.",
)
