"""The command vgg-bench: options in; tables, reports and a verdict out."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bench.first_words import FirstWords
from bench.gate.refused import withdraw
from bench.hints import HINTS
from bench.history.cli import main as history
from bench.option_types import (
    BOUNDS,
    CORRELATION,
    DISTANCE,
    IMAGES,
    LATENCY_BOUND,
    MATCHES,
    MEBIBYTES,
    MEGABYTES,
    MILLISECONDS,
    PER_CENT,
    PER_CENT_MORE,
    POINTS,
    POSTERIOR,
    RATES,
    SECONDS,
    Names,
    Sizes,
)
from bench.request import BenchRequest, OutputRequest, refuse_contradictions
from vgg_deploy.command_line import Choice, ShownError, parse_channels, say, version_option
from vgg_deploy.errors import InputError, VGGDeployError, hints, interruptible
from vgg_deploy.net.box_outputs import BOX_COORDINATES, MATCH, TOP_CLASSES
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
)
from vgg_deploy.net.weights_names import WEIGHTS
from vgg_deploy.number_bounds import MOST_BATCH, MOST_CLASSES, MOST_IMAGES, MOST_SIDE, MOST_THREADS
from vgg_deploy.waiting_threads import let_waiting_threads_sleep

# How long a process waits for another one: the main process measures latency alone. A process
# that has ended is noticed at once.
PATIENCE = timedelta(days=7)
KEPT = "stored scores and the tables of an earlier run are kept; run the same command again"

MEASURES = ("accuracy", "latency", "localisation", "memory")
RUNTIMES = (
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
TORCH_PRECISIONS = ("fp32", "fp16", "bf16")


@click.command(
    cls=FirstWords,
    others={"history": history},
    context_settings={"show_default": True},
    examples=(
        ("vgg-bench", "the newest export on the built-in images"),
        (
            "vgg-bench runs/D/best.pt exported/D.fp32.onnx --data photos --scales 256,384",
            "a checkpoint and its export on your images",
        ),
        (
            "vgg-bench D.fp32.onnx D.int8.onnx --data photos --max-top1-drop 0.5",
            "a gate: exit code 0 (pass), 1 (fail) or 3 (too few images)",
        ),
        (
            "vgg-bench D.pt E.pt --data imagenet --paper-tables --measure accuracy",
            "Tables 3 to 7 of the paper",
        ),
        (
            "vgg-bench D.pt --boxes-by D-boxes.pt --data imagenet --boxes xml",
            "localisation errors, as Tables 8 to 10",
        ),
        (
            "vgg-bench D.lpips.fp32.onnx D.lpips.int8.onnx --data photos --min-spearman 0.99",
            "distance files on distorted photos",
        ),
        (
            "vgg-bench D.onnx --data photos --against results-1.2 --max-slowdown 10 --max-size 160",
            "against the results of an earlier run",
        ),
        ("vgg-bench history results-*", "error, speed, size and memory over commits"),
        (
            "vgg-bench D.pt D.int8.onnx --per-layer --measure latency",
            "where the milliseconds and the agreement go",
        ),
        (
            "vgg-bench D.fp32.onnx --load --latency-bound 500",
            "throughput and latency under load, and the best setting",
        ),
        ("vgg-bench --prune 30d --dry-run", "stored posteriors not used for 30 days"),
    ),
)
@click.argument("paths", metavar="[MODELS]...", nargs=-1, type=WEIGHTS)
@click.option(
    "--scales",
    "sides",
    type=Sizes("256,384,512", MOST_SIDE),
    help="Q: shorter side of the images at test time, pixels.  [default: by each net's S, as in "
    "the paper]",
)
@click.option(
    "--protocols",
    metavar="PROTOCOL,...",
    help="dense, multicrop, multicrop+dense, centre, ten, googlenet; dense-softmax-first, "
    "multicrop+dense-softmax-first: softmax before the score map is averaged.  [default: dense]",
)
@click.option(
    "--fuse",
    multiple=True,
    metavar="NAME,NAME",
    help="Also the mean posterior of these models, named as in the tables; may be repeated.",
)
@click.option(
    "--paper-tables",
    is_flag=True,
    help="Tables 3-7 of the paper, its numbers beside those of these models.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Folder with val/<class>/*, an ILSVRC validation set, tar shards, or images without "
    "labels.  [default: built-in images]",
)
@click.option(
    "--no-labels",
    is_flag=True,
    help="The folders of --data are not classes: only compare the models' answers.",
)
@click.option(
    "--classes",
    multiple=True,
    metavar="FILE|MODEL=FILE",
    help="Classes in the order of the scores, for models without class ids: one class per line, or "
    "JSON. For all models, or for one; may be repeated.  [default: the sorted class folders]",
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--crop", type=click.IntRange(32, MOST_SIDE), help=CROP_HELP)
@click.option(
    "--verify",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Check every model's signature with this public key (PEM, elliptic curve), before "
    "anything reads it; unsigned and altered files are refused. Needs the extra `signing`.",
)
@click.option(
    "--measure",
    default="accuracy,latency",
    type=Names(MEASURES),
    help="What to measure, comma-separated; with --boxes-by always localisation, with --max-memory "
    "always memory.",
)
@click.option(
    "--boxes-by",
    multiple=True,
    type=WEIGHTS,
    metavar="BOXNET",
    help="Also judge the boxes of this localiser; the labels are those of MODELS. May be repeated: "
    "then also all together.",
)
@click.option(
    "--boxes",
    type=click.Path(),
    metavar="ANNOTATIONS",
    help="Where the objects of --data are: folder of Pascal VOC's or ILSVRC's XML files, or table "
    "image,class,xmin,ymin,xmax,ymax (.csv).",
)
@click.option(
    "--box-coordinates",
    default=BOX_COORDINATES[0],
    type=Choice(BOX_COORDINATES),
    help="Of --boxes: voc, numbers of pixels from 1, the last one inside; edges, from 0, as "
    "ILSVRC.",
)
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Images that do not count for boxes, one per line: ILSVRC's numbers, or names.",
)
@click.option(
    "--merge-match",
    default=MATCH,
    type=MATCHES,
    help="Boxes are merged up to this match: distance of centres in mean diagonals, plus 1 - IoU.",
)
@click.option(
    "--merge-classes",
    default=TOP_CLASSES,
    type=click.IntRange(1, MOST_CLASSES),
    help="A scale gives the boxes of so many classes, the best ones there.",
)
@click.option(
    "--flips/--no-flips",
    default=True,
    help="Also average with the mirrored image (ten and googlenet always do).",
)
@click.option(
    "--max-top1-drop",
    type=POINTS,
    help="Gate: largest loss of top-1 accuracy against the first model, percentage points.",
)
@click.option("--max-top5-drop", type=POINTS, help="Gate: the same for top-5.")
@click.option(
    "--max-box-drop",
    type=POINTS,
    help="Gate: largest loss of images with a right box of the true class against the first "
    "--boxes-by, percentage points.",
)
@click.option(
    "--min-agreement",
    type=PER_CENT,
    help="Gate: smallest share of images with the first model's best class, per cent.",
)
@click.option(
    "--max-top1-error",
    type=PER_CENT,
    help="Gate: highest top-1 error of every model, including the first, per cent.",
)
@click.option(
    "--max-posterior-difference",
    type=POSTERIOR,
    help="Gate: largest difference of any posterior from the first model's, 0 to 1.  [default: "
    "0.0001 for float32 files of the same weights, none for others]",
)
@click.option(
    "--max-left-out",
    type=click.IntRange(0, MOST_IMAGES),
    help="Gate: how many images may be unreadable or skipped.  [default: 0]",
)
@click.option(
    "--min-spearman",
    type=CORRELATION,
    help="Gate: smallest rank correlation of a distance file's distances with the first file's, 0 "
    "to 1.",
)
@click.option(
    "--max-distance-error",
    type=DISTANCE,
    help="Gate: largest difference of any distance from the first file's.",
)
@click.option(
    "--max-slowdown",
    type=PER_CENT_MORE,
    help="Gate: most time that a call may take more, per cent: than the earlier file's with "
    "--against, else than the first model's, called in turn.",
)
@click.option(
    "--max-memory",
    type=MEBIBYTES,
    help="Gate: most resident memory of a process that opens a model and answers, Python and "
    "libraries included, MiB.",
)
@click.option(
    "--max-size",
    type=MEGABYTES,
    help="Gate: largest size of a model's files, MB (10^6 bytes).",
)
@click.option(
    "--gate-rows",
    multiple=True,
    metavar="WORDS",
    help="Gate: judge only rows with these words: a protocol, Q, flips or no-flips, e.g. "
    "'dense 256+384 flips'; may be repeated.  [default: all rows]",
)
@click.option(
    "--undecided",
    type=Choice(("pass", "fail")),
    help="Gate: the result if there are too few images for a verdict: exit code 0 or 1.  "
    "[default: exit code 3]",
)
@click.option(
    "--batch-sizes",
    "batches",
    default="1,8",
    type=Sizes("1,8", MOST_BATCH),
    help="Batch sizes of the latency table.",
)
@click.option(
    "--latency-seconds",
    default="3",
    type=SECONDS,
    help="Minimum time per row of the latency table. A row takes up to 8 times as long, until its "
    "median is steady.",
)
@click.option(
    "--accuracy-batch",
    default=16,
    type=click.IntRange(1, MOST_BATCH),
    help="Largest batch when measuring accuracy.",
)
@click.option(
    "--images",
    type=IMAGES,
    help="Use this many images, spread evenly; auto: in random order until the limits are decided "
    "(anytime-valid tests by betting, Waudby-Smith and Ramdas 2023; each verdict is wrong in at "
    "most 1 % of runs).",
)
@click.option(
    "--device",
    default="cpu",
    type=Choice(("cpu", "cuda")),
    help="Where every model runs. There is no fallback to another device.",
)
@click.option(
    "--runtimes",
    "runtime_names",
    default="",
    show_default=False,
    type=Names(RUNTIMES),
    help="Runtimes for the files, each used where it fits: torch, torch-compile; onnxruntime, "
    "onnxruntime-tensorrt, onnxruntime-rtx; openvino, openvino-bf16; ncnn, ncnn-bf16 (-bf16: float "
    "files computed in bfloat16); tensorrt, tensorrt-rtx.  [default: torch, onnxruntime, openvino "
    "for .xml, ncnn, the engine's own]",
)
@click.option(
    "--torch-precision",
    "precisions",
    default="fp32",
    type=Names(TORCH_PRECISIONS),
    help="Precisions of checkpoints in PyTorch: fp32, fp16, bf16.",
)
@click.option(
    "--cuda-graphs",
    is_flag=True,
    help="Replay recorded kernels, one recording per shape (torch and TensorRT on a GPU).",
)
@click.option(
    "--side-by-side",
    is_flag=True,
    help="Also run all models in turn (A B A B) and report the ratio of their times.",
)
@click.option(
    "--against",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Compare with the results of an earlier run: answers image by image, and calls in turn "
    "with the earlier file where it still is. Limits on losses are judged against it too.",
)
@click.option(
    "--per-layer",
    is_flag=True,
    help="Also the time and the error of every layer, at the smallest of --scales and "
    "--batch-sizes, and why the first images that models answer differently differ.",
)
@click.option(
    "--explain",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="IMAGE",
    help="Why a model's answer to this image differs from the float32 net's, layer by layer; may "
    "be repeated.",
)
@click.option(
    "--load",
    is_flag=True,
    help="Only measure the models under load: offline, single stream, and as a server with Poisson "
    "arrivals, as in MLPerf Inference. --batch-sizes are tried, with square images of --scales or "
    "the net's crop.",
)
@click.option(
    "--instances",
    type=Sizes("1,2", MOST_THREADS),
    help="Load: numbers of instances to try.  [default: as many as the cores hold]",
)
@click.option(
    "--batch-delay",
    default=0.0,
    type=MILLISECONDS,
    help="Load: an image waits so long at the server for its batch to fill, ms.",
)
@click.option(
    "--arrival-rates",
    type=RATES,
    help="Load: images per second that arrive at the server.  [default: shares of the offline "
    "throughput, then around the knee]",
)
@click.option(
    "--latency-bound",
    default="5x",
    type=LATENCY_BOUND,
    help="Load: the server's p99 is to stay within it: ms, or a multiple of the median of the "
    "single stream with most threads.",
)
@click.option(
    "--load-seconds",
    default="10",
    type=SECONDS,
    help="Load: time of one measurement. A server gets as long again to answer what still waits; "
    "images that wait then are dropped and counted.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="CPU threads of each process, and its number of image decoders; with --load those of each "
    "instance.  [default: this process's share of the cores; with --load several are tried]",
)
@click.option(
    "--on-error",
    type=Choice(("stop", "skip")),
    default="stop",
    help="What to do at an unreadable image.",
)
@click.option(
    "--exif",
    default="ignore",
    type=Choice(("ignore", "apply")),
    help="What to do with the EXIF rotation of the images of --data.",
)
@click.option(
    "--cells",
    default="cells",
    type=click.Path(path_type=Path),
    help="Folder of stored posteriors; existing ones are not computed again.",
)
@click.option(
    "--cell-type",
    default="float32",
    type=Choice(("float32", "float16")),
    help="Type of stored posteriors; float16 halves the space and rounds to 3 digits.",
)
@click.option(
    "--prune",
    multiple=True,
    type=BOUNDS,
    help="Only remove stored posteriors that were not used for so many days, or the oldest beyond "
    "this size; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="With --prune: say what it would remove.")
@click.option(
    "--out",
    default="results",
    type=click.Path(path_type=Path),
    help="Folder of tables and reports.",
)
@click.option(
    "--summary",
    type=click.Path(path_type=Path),
    help="Also append the verdict and the tables to this Markdown file, e.g. "
    '"$GITHUB_STEP_SUMMARY".',
)
@version_option
@hints(HINTS)
@interruptible(KEPT)
def main(**options: Any) -> None:
    """Measure MODELS (checkpoints, ONNX files, engines): error and latency at each test scale.

    Weights may be named: torchvision:vgg16, timm:vgg16.tv_in1k, hf-hub:OWNER/NAME, an https://
    address, a folder with config.json. Without MODELS, the newest export is measured. With a limit
    (--max-top1-drop ...), the first model is the reference. The verdict of the gate is pass (exit
    code 0), fail (1), or undecided (3): too few images.
    E.g. vgg-bench runs/D/best.pt exported/D.fp32.onnx --scales 256,384

    On several GPUs, machines or groups of cores, each process scores its share of the images:
    torchrun --nproc-per-node 8 -m bench runs/D/best.pt --data /data/imagenet

    vgg-bench history DIR... draws the results of several runs over time.
    """
    request = _checked_request(options)
    if request.output.prune:
        _prune(request.output)
        return
    let_waiting_threads_sleep()
    from bench.command import bench
    from vgg_deploy.job import hide_other_gpus, joined

    if request.models.device == "cuda":
        hide_other_gpus()
    with joined(patience=PATIENCE) as job, interruptible(KEPT), hints(HINTS):
        bench(request, job)


OF_LOAD = ("instances", "batch_delay", "arrival_rates", "latency_bound", "load_seconds")
NOT_OF_LOAD = ("measure", "latency_seconds", "accuracy_batch", "classes")


def _refuse_stray_load_options(load: bool) -> None:
    """Refuse options of --load without it, and of other measurements with it."""
    context = click.get_current_context()
    for name in NOT_OF_LOAD if load else OF_LOAD:
        if context.get_parameter_source(name) != ParameterSource.DEFAULT:
            flag = f"--{name.replace('_', '-')}"
            wrong = f"--load measures load alone; leave {flag} out"
            raise click.UsageError(wrong if load else f"{flag} belongs to --load; add it")


def _prune(output: OutputRequest) -> None:
    """Remove old cells."""
    from bench.accuracy.cell_pruning import Bound, prune
    from bench.accuracy.cell_store import exclusive

    if not output.cells.is_dir():
        raise InputError(f"{output.cells}: no such folder; name that of the cells with --cells")
    with exclusive(output.cells):
        bounds = [Bound(days, size) for days, size in output.prune]
        say(prune(output.cells, bounds, output.dry_run))


def _checked_request(options: dict[str, Any]) -> BenchRequest:
    """The options as records; a contradiction withdraws an earlier verdict of the gate."""
    request = BenchRequest.from_options(options)
    try:
        refuse_contradictions(request)
        _refuse_stray_load_options(request.load.load)
    except VGGDeployError as error:
        withdraw(click.get_current_context(), ShownError(error))
        raise
    except click.ClickException as error:
        withdraw(click.get_current_context(), error)
        raise
    return request
