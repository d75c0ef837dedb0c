"""The command vgg-predict: a model and images in, their best classes out."""

from pathlib import Path
from typing import Any

import click

from bench.hints import HINTS
from bench.option_types import Sizes
from bench.predict.request import FORMATS, PredictRequest, refuse_contradictions
from vgg_deploy.command_line import Command, parse_channels, version_option
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
)
from vgg_deploy.net.weights_names import WEIGHTS
from vgg_deploy.number_bounds import MOST_BATCH, MOST_CLASSES, MOST_SIDE, MOST_THREADS
from vgg_deploy.waiting_threads import let_waiting_threads_sleep

PROTOCOL_NAMES = (
    "dense",
    "multicrop",
    "multicrop+dense",
    "centre",
    "ten",
    "googlenet",
    "dense-softmax-first",
    "multicrop+dense-softmax-first",
)
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


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("model", type=WEIGHTS)
@click.argument("inputs", metavar="IMAGES...", nargs=-1, required=True)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOL_NAMES),
    help="Which views of an image are averaged.  [default: dense, or what a file of whole images "
    "scores by itself]",
)
@click.option(
    "--scales",
    "sides",
    type=Sizes("256,384,512", MOST_SIDE),
    help="Q: shorter side of the images, pixels; several are averaged.  [default: the net's S, or "
    "the middle of its range]",
)
@click.option("--flips/--no-flips", default=True, help="Also average with the mirrored image.")
@click.option(
    "--top", default=5, type=click.IntRange(1, MOST_CLASSES), help="Classes listed per image."
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="Classes in the order of the scores, for models that do not name theirs: one class per "
    "line, or JSON.",
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), help=ORDER_HELP)
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
    type=click.Choice(("cpu", "cuda")),
    help="Where the model runs. There is no fallback to another device.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIME_NAMES),
    help="What runs the file; openvino-bf16 and ncnn-bf16 compute a float file in bfloat16.  "
    "[default: PyTorch, ONNX Runtime, OpenVINO, ncnn or TensorRT, by the file]",
)
@click.option(
    "--precision",
    default="fp32",
    type=click.Choice(("fp32", "fp16", "bf16")),
    help="Of a checkpoint in PyTorch; exported files have their own.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="CPU threads, and processes that decode images.  [default: the cores this process may "
    "use]",
)
@click.option(
    "--batch", default=16, type=click.IntRange(1, MOST_BATCH), help="Most views per call."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Of the output; jsonl has one JSON object per image.  [default: by the suffix of --out, "
    "else table]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, which appears when it is complete.  [default: standard output]",
)
@click.option(
    "--maps",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for one PNG per image: the best class's posterior at every position of the score "
    "map, laid over the image.",
)
@click.option(
    "--boxes-by",
    type=click.Path(path_type=Path),
    metavar="LOCALISER",
    help="A localiser of the same classes, a checkpoint or an exported file.",
)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for one PNG per image, with the boxes of its best classes by --boxes-by, and for "
    "boxes.csv.",
)
@click.option(
    "--on-error",
    default="stop",
    type=click.Choice(("stop", "skip")),
    help="What to do at an unreadable image.",
)
@version_option
@hints(HINTS)
@interruptible("a file of --out keeps the content that it had before; run the same command again")
def main(**options: Any) -> None:
    """Classify IMAGES with MODEL: a checkpoint, an exported file, an engine, or weights by name.

    Weights have names such as torchvision:vgg16, timm:vgg16.tv_in1k, hf-hub:OWNER/NAME, or an
    https:// address.

    IMAGES are files, folders (with all folders in them), http(s) addresses, or - for one image from
    standard input. They are rescaled as the model's file says, and listed in their order.
    E.g. vgg-predict exported/D.fp32.onnx dog.jpg photos --top 3 --out predictions.csv
    """
    request = PredictRequest(**options)
    refuse_contradictions(request)
    let_waiting_threads_sleep()
    from bench.predict.command import predict

    predict(request)
