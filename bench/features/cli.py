"""The command vgg-features: a model and images in, a folder of their descriptors out."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from bench.features.request import FeaturesRequest, refuse_contradictions
from bench.hints import OF_FEATURES
from bench.option_types import Sizes
from vgg_deploy.command_line import (
    Choice,
    Command,
    parse_channels,
    split_names,
    version_option,
)
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
)
from vgg_deploy.net.weights_names import WEIGHTS
from vgg_deploy.number_bounds import MOST_BATCH, MOST_IMAGES, MOST_SIDE, MOST_THREADS
from vgg_deploy.waiting_threads import let_waiting_threads_sleep

# How long a process waits for another one, whose share of the images may take longer. A process
# that has ended is noticed at once.
PATIENCE = timedelta(days=7)
KEPT = "whole shards are kept; go on with the same command"

RUNTIME_NAMES = (
    "torch",
    "torch-compile",
    "onnxruntime",
    "onnxruntime-tensorrt",
    "onnxruntime-rtx",
    "openvino",
    "openvino-bf16",
    "ncnn",
    "ncnn-bf16",
    "tensorrt",
    "tensorrt-rtx",
)


def parse_layers(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """Parse an option's "relu7,pool5", as a click callback.

    Raises:
        click.BadParameter: If it names nothing.
    """
    if text is None:
        return None
    names = split_names(text)
    if not names:
        raise click.BadParameter("names no layer; write relu7, say")
    return names


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    examples=(
        (
            "vgg-features runs/D/best.pt photos --scales 256,384,512 --out features",
            "relu7 of a checkpoint, averaged over positions, mirror images and scales",
        ),
        (
            "vgg-features D.pt photos --layers pool5,relu7 --over-scales stack --l2",
            "two layers, the scales side by side, divided by the Euclidean norm",
        ),
        (
            "torchrun --nproc-per-node 8 -m bench.features D.pt photos --device cuda",
            "eight processes, each with its share of the shards",
        ),
    ),
)
@click.argument("model", type=WEIGHTS)
@click.argument("data", type=click.Path())
@click.option(
    "--layers",
    metavar="LAYER,...",
    callback=parse_layers,
    help="Layers that describe an image, such as relu7, pool5 or conv4_3. fc7 is before the ReLU, "
    "relu7 after it.  [default: relu7; pool5 of convolutions alone; all that a feature file gives]",
)
@click.option(
    "--scales",
    "sides",
    type=Sizes("256,384,512", MOST_SIDE),
    help="Q: shorter side of the images, pixels.  [default: the net's S, or the middle of its "
    "range]",
)
@click.option("--flips/--no-flips", default=True, help="Also average with the mirrored image.")
@click.option(
    "--over-scales",
    default="average",
    type=Choice(("average", "stack")),
    help="What becomes of several scales: their mean, or all of them side by side.",
)
@click.option(
    "--l2", is_flag=True, help="Divide each descriptor by its Euclidean norm, at the end."
)
@click.option(
    "--split",
    default="val",
    type=Choice(("train", "val")),
    help="Which images of DATA; a folder without train and val is taken as it is.",
)
@click.option(
    "--no-labels", is_flag=True, help="The folders of DATA are not classes: list images alone."
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--crop", type=click.IntRange(32, MOST_SIDE), help=CROP_HELP)
@click.option(
    "--verify",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Check the model's signature with this public key (PEM, elliptic curve), before "
    "anything reads it; unsigned and altered files are refused. Needs the extra `signing`.",
)
@click.option(
    "--device",
    default="cpu",
    type=Choice(("cpu", "cuda")),
    help="Where the model runs. There is no fallback to another device.",
)
@click.option(
    "--runtime",
    type=Choice(RUNTIME_NAMES),
    help="What runs the file; openvino-bf16 and ncnn-bf16 compute a float file in bfloat16.  "
    "[default: PyTorch, ONNX Runtime, OpenVINO, ncnn or TensorRT, by the file]",
)
@click.option(
    "--precision",
    default="fp32",
    type=Choice(("fp32", "fp16", "bf16")),
    help="Of a checkpoint in PyTorch; exported files have their own.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="CPU threads of each process, and its processes that decode images.  [default: this "
    "process's share of the cores]",
)
@click.option(
    "--batch", default=16, type=click.IntRange(1, MOST_BATCH), help="Most images per call."
)
@click.option(
    "--on-error",
    default="stop",
    type=Choice(("stop", "skip")),
    help="What to do at an unreadable image.",
)
@click.option(
    "--exif",
    default="ignore",
    type=Choice(("ignore", "apply")),
    help="What to do with the EXIF rotation of the images.",
)
@click.option(
    "--out",
    default="features",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the descriptors. One that is not complete is continued.",
)
@click.option(
    "--format",
    "form",
    default="npy",
    type=Choice(("npy", "parquet")),
    help="Of the files with the numbers; parquet needs pyarrow.",
)
@click.option(
    "--shard",
    "images_per_shard",
    default=512,
    type=click.IntRange(1, MOST_IMAGES),
    help="Images per shard. Memory grows with it; a stopped run loses one shard per process.",
)
@version_option
@hints(OF_FEATURES)
@interruptible(KEPT)
def main(**options: Any) -> None:
    """Describe the images of DATA by layers of MODEL: whole images, as in the paper's appendix B.

    MODEL is a checkpoint, a file that gives features (vgg-export --features), an engine of one, or
    weights by name such as torchvision:vgg16, timm:vgg16.tv_in1k or an https:// address.

    DATA is a folder of images, class folders, ImageNet as downloaded, or tar shards.

    A layer is averaged over its positions, over the image and its mirror image, and over the
    scales. The folder --out has the numbers in shards, each with the list of its images, and
    features.json, which appears when all shards are there.
    """
    request = FeaturesRequest(**options)
    refuse_contradictions(request)
    let_waiting_threads_sleep()
    from bench.features.command import write_features
    from vgg_deploy.job import hide_other_gpus, joined

    if request.device == "cuda":
        hide_other_gpus()
    with joined(patience=PATIENCE) as job, interruptible(KEPT), hints(OF_FEATURES):
        write_features(request, job)
