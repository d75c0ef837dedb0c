"""vgg-bench: options in, tables, reports and a verdict out."""

import math
import os
from datetime import timedelta
from pathlib import Path

import click

from bench.gate.refused import GateCommand, withdraw
from bench.hints import HINTS
from bench.option_types import IMAGES, PER_CENT, POINTS, POSTERIOR
from bench.request import BenchRequest, refuse_contradictions
from vgg_deploy.command_line import ShownError, parse_channels
from vgg_deploy.errors import VGGDeployError, hints, interruptible
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
)

# how long a process waits for another: the main one measures latency alone. One that is gone is noticed at once
PATIENCE = timedelta(days=7)
KEPT = "the tables of an earlier run stay as they were"


def parse_sizes(ctx, param, text: str | None) -> tuple[int, ...] | None:
    """256,384 -> (256, 384), ascending and unique"""
    if text is None:
        return None
    try:
        sizes = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list of whole numbers; write {EXAMPLES[param.name]}"
        ) from None
    if sizes[0] < 1:
        raise click.BadParameter(f"{sizes[0]} is below 1")
    return sizes


def parse_list(ctx, param, text: str) -> tuple[str, ...]:
    """torch,torch-compile -> ("torch", "torch-compile"), each once and known"""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in KNOWN[param.name]:
            raise click.BadParameter(
                f"{name!r} is none; choose from {', '.join(KNOWN[param.name])}"
            )
    return names


def parse_seconds(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """A finite number of seconds in a range."""
    least, most = SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not least <= seconds <= most:
        allowed = f"from {least:g} to {most:g}"
        raise click.BadParameter(f"{text!r} is no number of seconds {allowed}; write 3, say")
    return seconds


SECONDS = (0.01, 3600)  # of --latency-seconds
KNOWN = {
    "measure": ("accuracy", "latency"),
    "runtime_names": (
        "torch",
        "torch-compile",
        "onnxruntime",
        "onnxruntime-tensorrt",
        "ncnn",
        "tensorrt",
        "tensorrt-rtx",
    ),
    "precisions": ("fp32", "fp16", "bf16"),
}
EXAMPLES = {"sides": "256,384,512", "batches": "1,8"}


@click.command(cls=GateCommand, context_settings={"show_default": True})
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--scales",
    "sides",
    callback=parse_sizes,
    help="Q: shorter image side at test time, pixels.  [default: by each net's S, as in the paper]",
)
@click.option("--protocols", help="dense, multicrop, multicrop+dense, centre, ten, googlenet; dense-softmax-first, multicrop+dense-softmax-first: "
              "softmax before the score map is averaged.  [default: dense]")  # fmt: skip
@click.option(
    "--fuse",
    multiple=True,
    metavar="NAME,NAME",
    help="Also the mean posterior of these models, named as in the tables; may be repeated.",
)
@click.option(
    "--paper-tables",
    is_flag=True,
    help="Tables 3-7 of the paper, its numbers beside these models'.",
)
@click.option("--data", type=click.Path(), help="Folder with val/<class>/*, an ILSVRC validation set, tar shards, or photos without labels. Without it: "
              "built-in pictures.")  # fmt: skip
@click.option(
    "--no-labels",
    is_flag=True,
    help="The folders of --data are no classes: compare the models' answers only.",
)
@click.option("--classes", multiple=True, metavar="FILE|MODEL=FILE", help="Classes in the order of the scores, for models without class ids: "
              "one class a line, or JSON. Of all models, or of one; may be repeated.  [default: the order of the sorted class folders]")  # fmt: skip
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--crop", type=click.IntRange(32), help=CROP_HELP)
@click.option(
    "--measure",
    default="accuracy,latency",
    callback=parse_list,
    help="What to measure, comma-separated.",
)
@click.option(
    "--flips/--no-flips",
    default=True,
    help="Also average with the mirrored image (ten and googlenet always do).",
)
@click.option(
    "--max-top1-drop",
    type=POINTS,
    help="Gate: most percentage points of top-1 accuracy that a model may lose against the first.",
)
@click.option("--max-top5-drop", type=POINTS, help="Gate: the same for top-5.")
@click.option(
    "--min-agreement",
    type=PER_CENT,
    help="Gate: least images in per cent with the first model's best class.",
)
@click.option(
    "--max-top1-error",
    type=PER_CENT,
    help="Gate: highest top-1 error in per cent, of every model, the first too.",
)
@click.option("--max-posterior-difference", type=POSTERIOR,
              help="Gate: largest difference of any posterior from the first model's, 0 to 1.  [default: 0.0001 for float32 files of the same "
              "weights, none for others]")  # fmt: skip
@click.option(
    "--max-left-out",
    type=click.IntRange(0),
    help="Gate: most images that may be unreadable or skipped.  [default: 0]",
)
@click.option("--gate-rows", multiple=True, metavar="WORDS", help="Gate: judge only rows with these words: a protocol, Q, flips or no-flips, e.g. "
              "'dense 256+384 flips'; may be repeated.  [default: all rows]")  # fmt: skip
@click.option("--undecided", type=click.Choice(("pass", "fail")), help="Gate: what too few images for a verdict mean: exit code 0 or 1.  [default: "
              "exit code 3]")  # fmt: skip
@click.option(
    "--batch-sizes", "batches", default="1,8", callback=parse_sizes, help="Of the latency table."
)
@click.option("--latency-seconds", default="3", callback=parse_seconds, metavar="SECONDS",
              help="Least time for a row of the latency table; until the median is steady, at most "
              "8 times as long.")  # fmt: skip
@click.option(
    "--accuracy-batch",
    default=16,
    type=click.IntRange(1),
    help="Most pictures a call when measuring accuracy.",
)
@click.option("--images", type=IMAGES, help="Use so many images, spread evenly; auto: in random order until the limits are decided (anytime-valid "
              "tests by betting, Waudby-Smith and Ramdas 2023; each verdict is wrong in at most 1 % of runs).")  # fmt: skip
@click.option(
    "--device",
    default="cpu",
    type=click.Choice(("cpu", "cuda")),
    help="Where every model runs; never another one instead.",
)
@click.option("--runtimes", "runtime_names", default="", show_default=False, callback=parse_list,
              help="Ways to run the files, each where it fits: torch, torch-compile; onnxruntime, onnxruntime-tensorrt; ncnn; tensorrt, tensorrt-rtx.  "
              "[default: torch, onnxruntime, the engine's own]")  # fmt: skip
@click.option(
    "--torch-precision",
    "precisions",
    default="fp32",
    callback=parse_list,
    help="Of checkpoints in PyTorch: fp32, fp16, bf16.",
)
@click.option(
    "--cuda-graphs",
    is_flag=True,
    help="Replay recorded kernels, a recording a shape (torch and TensorRT on a GPU).",
)
@click.option(
    "--side-by-side",
    is_flag=True,
    help="Also run all models in turn (A B A B) and give the ratio of their times.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="On the CPU, each process; as many decode images.  [default: this process's share of the cores]",
)
@click.option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    help="What an unreadable image does.",
)
@click.option(
    "--cells",
    default="cells",
    type=click.Path(path_type=Path),
    help="Folder of stored posteriors; what is there is not computed again.",
)
@click.option("--cell-type", default="float32", type=click.Choice(("float32", "float16")), help="Of stored posteriors; float16 halves the space and "
              "rounds to 3 digits.")  # fmt: skip
@click.option(
    "--out",
    default="results",
    type=click.Path(path_type=Path),
    help="Folder of tables and reports.",
)
@hints(HINTS)
@interruptible(KEPT)
def main(**options):
    """Measure MODELS (checkpoints, ONNX files, engines): error and latency at each test scale.

    Without MODELS: what vgg-export wrote last. With a limit (--max-top1-drop ...) the first model is the reference. The gate's
    verdict is pass (exit code 0), fail (1), or undecided (3): too few images. E.g. vgg-bench runs/D/best.pt exported/D.fp32.onnx --scales 256,384

    On several GPUs, machines or groups of cores, each scoring its share of the images:
    torchrun --nproc-per-node 8 -m bench runs/D/best.pt --data /data/imagenet
    """
    request = BenchRequest(**options)
    try:
        refuse_contradictions(request)
    except VGGDeployError as error:
        withdraw(click.get_current_context(), ShownError(error))
        raise
    except click.ClickException as error:
        withdraw(click.get_current_context(), error)
        raise
    # waiting threads must sleep, not spin: decoders and other runtimes need the same cores (read when torch is imported)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bench.command import bench
    from vgg_deploy.job import hide_other_gpus, joined

    if request.device == "cuda":
        hide_other_gpus()
    with joined(patience=PATIENCE) as job, interruptible(KEPT), hints(HINTS):
        bench(request, job)
