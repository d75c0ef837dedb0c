"""vgg-export: options in, files and tables out."""

import math
import os
import re
from pathlib import Path
from typing import Any

import click

from export.hints import HINTS
from export.request import ExportRequest, refuse_contradictions
from export.settings.export_options import (
    EXIF_NAMES,
    LEAST_CALIBRATION_IMAGES,
    LOW_RANK_NAMES,
    METHOD_NAMES,
    ON_ERROR_NAMES,
    OPSETS,
    PRECISION_NAMES,
    PROFILE_NAMES,
    EngineOptions,
    ExportOptions,
)
from export.settings.serving import BACKEND_NAMES, VIEW_NAMES, ServingOptions
from vgg_deploy.command_line import (
    Choice,
    Command,
    parse_channels,
    split_known_names,
    split_names,
    split_whole_numbers,
    version_option,
)
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.exported.metadata import INPUT_FORMS
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
)
from vgg_deploy.net.weights_names import WEIGHTS
from vgg_deploy.number_bounds import MOST_BATCH, MOST_IMAGES, MOST_SIDE, MOST_THREADS

MOST_COST = 1e6  # per cent
MOST_RANK = 4096
MOST_WEIGHT = 1e6  # of a layer in a distance
LAYER = re.compile(r"(conv|relu|pool|norm|fc)\d")  # names of layers begin so
ONNX, ENGINES, SERVING = ExportOptions(), EngineOptions(), ServingOptions()  # the defaults


def parse_names(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    """A comma-separated list of names."""
    return split_names(text)


def parse_precisions(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    """A comma-separated list of precisions, at least one."""
    names = split_known_names(text, PRECISION_NAMES)
    if not names:
        raise click.BadParameter(f"names none; choose from {', '.join(PRECISION_NAMES)}")
    return names


def parse_terms(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[tuple[str, float], ...]:
    """A comma-separated list of LAYER:WEIGHT; empty if there is none."""
    if text is None:
        return ()
    terms = []
    for part in split_names(text):
        layer, colon, written = part.partition(":")
        try:
            weight = float(written if colon else "1")
        except ValueError:
            weight = math.nan
        if not LAYER.match(layer) or not 0 < weight <= MOST_WEIGHT:
            raise click.BadParameter(
                f"{part!r:.60} is not LAYER:WEIGHT with a weight above 0 and up to "
                f"{MOST_WEIGHT:,.0f}; write e.g. relu2_2:1,relu3_3:0.5"
            )
        terms.append((layer, weight))
    if not terms:
        raise click.BadParameter("names no layer; write e.g. relu2_2:1,relu3_3:0.5")
    return tuple(terms)


def parse_ranks(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[tuple[str, int], ...]:
    """A comma-separated list of LAYER:RANK; empty if there is none."""
    if text is None:
        return ()
    ranks = []
    for part in split_names(text):
        layer, _, written = part.partition(":")
        is_number = written.isascii() and written.isdigit() and len(written) <= len(str(MOST_RANK))
        rank = int(written) if is_number else 0
        if layer not in LOW_RANK_NAMES or not 0 < rank <= MOST_RANK:
            raise click.BadParameter(
                f"{part!r:.60} is not fc6 or fc7 with a rank above 0; write e.g. fc6:512,fc7:256"
            )
        ranks.append((layer, rank))
    if not ranks or len({layer for layer, _ in ranks}) < len(ranks):
        raise click.BadParameter("names no layer, or one twice; write e.g. fc6:512,fc7:256")
    return tuple(ranks)


def parse_views(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
    """A comma-separated list of views; empty if the option is not given."""
    views = () if text is None else split_known_names(text, VIEW_NAMES)
    if text is not None and not views:
        raise click.BadParameter(f"names no view; choose from {', '.join(VIEW_NAMES)}")
    return views


def parse_shape(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Four numbers of NxCxHxW or NxHxWxC; None if there are none."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){3}", text, re.ASCII):
        raise click.BadParameter(
            f"{text!r:.60} is not a shape; write e.g. 1x3x224x224, of whole images 1x480x640x3"
        )
    return tuple(map(int, text.split("x")))


def parse_percent(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which click's ranges let pass."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a percentage; write e.g. 10")
    return value


def parse_scales(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """A comma-separated list of test scales; None if there are none."""
    return split_whole_numbers(text, "256,384,512", MOST_SIDE) if text else None


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    examples=(
        ("vgg-export --onnx", "best.pt of the newest run"),
        (
            "vgg-export vgg16.pth --onnx --classes classes.txt --triton models",
            "weights of torchvision, and a model repository for Triton",
        ),
        (
            "vgg-export best.pt --onnx --precision fp32,int8-cpu --calibration photos",
            "two files, one in 8 bits for CPUs",
        ),
        (
            "vgg-export best.pt --onnx --precision int8 --max-top1-drop 0.5 --data photos",
            "some layers in float, so that the file loses at most half a point",
        ),
        (
            "vgg-export exported/D.fp16.onnx --trt --scales 256,384 --data photos",
            "a TensorRT engine for these sizes",
        ),
        ("vgg-export exported/D.fp32.onnx --ncnn", "files for ncnn"),
        (
            "vgg-export vgg16.pth --onnx --features relu1_2,relu2_2,relu3_3",
            "a feature extractor",
        ),
        ("vgg-export vgg16.pth --onnx --lpips", "the LPIPS distance of two images"),
        ("vgg-export best.pt --onnx --whole-images 256", "photos of any size go in as they are"),
    ),
)
@click.argument("model", required=False, type=WEIGHTS)
@click.option(
    "--onnx",
    "to_onnx",
    is_flag=True,
    help="Write ONNX files: dynamic batch, height and width.",
)
@click.option(
    "--precision",
    "precisions",
    default=",".join(ONNX.precisions),
    callback=parse_precisions,
    metavar=f"[{'|'.join(PRECISION_NAMES)}],...",
    help="fp32, fp16, bf16; int8, fp8 and int4 for TensorRT; int8-cpu and int4-cpu for ONNX "
    "Runtime on CPUs. int4 is int8 with 4-bit weights in fc6 and fc7. Comma-separated, one file "
    "each.",
)
@click.option(
    "--calibration",
    type=click.Path(),
    help="Folder or tar shards of images like those that the net will see, to quantize by. Of a "
    "data set the training half is used.  [default: the built-in images, for nets trained on them]",
)
@click.option(
    "--calibration-images",
    default=ONNX.calibration_images,
    type=click.IntRange(LEAST_CALIBRATION_IMAGES, MOST_IMAGES),
    help="Number of images used, spread evenly over the folder. Every eighth (8 to 64) is held out "
    "from the ranges and measures the cost.",
)
@click.option(
    "--calibration-method",
    "method",
    default=ONNX.method,
    type=Choice(METHOD_NAMES),
    help="Where to clip activations.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(0, MOST_COST, min_open=True),
    callback=parse_percent,
    metavar="PERCENT",
    help="Write no quantized file whose scores differ from the float32 net's by more than this "
    "(root mean square on the held-out images), and exit with 1.  [default: warn above 30]",
)
@click.option(
    "--max-top1-drop",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    callback=parse_percent,
    metavar="POINTS",
    help="Keep layers in float until quantized files are shown to lose at most so many percentage "
    "points of top-1 accuracy on the photos of --data; without labels, of answers that change.",
)
@click.option(
    "--on-error",
    default=ONNX.on_error,
    type=Choice(ON_ERROR_NAMES),
    help="What to do about an unreadable calibration image.",
)
@click.option(
    "--exif",
    default=ONNX.exif,
    type=Choice(EXIF_NAMES),
    help="What to do with the EXIF rotation of calibration images, and in models of "
    "--triton-photos.",
)
@click.option(
    "--quantize-weights",
    default="per-channel" if ONNX.per_channel else "per-tensor",
    type=Choice(("per-channel", "per-tensor")),
    help="Scales of weights: one per output channel is more accurate, one per tensor is faster in "
    "TensorRT.",
)
@click.option(
    "--keep",
    default="",
    show_default=False,
    callback=parse_names,
    metavar="LAYER,...",
    help="Layers that are not quantized, e.g. conv1_1,fc6. fc8 never is.",
)
@click.option(
    "--low-rank",
    callback=parse_ranks,
    metavar="LAYER:RANK,...",
    help="Replace fc6, fc7 or both by two factors of this rank, e.g. fc6:512,fc7:256. They change "
    "the outputs for the calibration images least.",
)
@click.option(
    "--features",
    default="",
    show_default=False,
    callback=parse_names,
    metavar="LAYER,...",
    help="Write files that give the outputs of these layers, named so, instead of scores: conv5_3 "
    "and fc7 before their ReLU, relu5_3 and relu7 after it, pool5. Later layers are left out.",
)
@click.option(
    "--with-scores",
    is_flag=True,
    help="Files with --features give posterior and score map too.",
)
@click.option(
    "--boxes-by",
    type=click.Path(path_type=Path),
    metavar="LOCALISER",
    help="A localiser of the same classes: every file gives MODEL's scores and its boxes. What "
    "both nets compute alike is computed once.",
)
@click.option(
    "--lpips",
    is_flag=True,
    help="Write files that give the LPIPS distance of two images, D.lpips.fp32.onnx. For net D; "
    "needs the extra `lpips`.",
)
@click.option(
    "--perceptual",
    callback=parse_terms,
    metavar="LAYER:WEIGHT,...",
    help="Write files that give the perceptual distance of two images: the weighted mean squared "
    "differences of these layers' outputs. A weight that is left out is 1.",
)
@click.option(
    "--gram",
    callback=parse_terms,
    metavar="LAYER:WEIGHT,...",
    help="Write files that give the style distance of two images: the weighted squared differences "
    "of these layers' Gram matrices.",
)
@click.option(
    "--whole-images",
    type=click.IntRange(32, MOST_SIDE),
    metavar="Q",
    help="The graph takes whole images of any size, uint8 RGB (N, H, W, 3), and rescales them "
    "itself to the shorter side Q, to Pillow's pixels: D.whole.fp32.onnx.",
)
@click.option(
    "--centre-crop",
    is_flag=True,
    help="With --whole-images, score the centre crop alone.  [default: dense]",
)
@click.option(
    "--fixed-shape",
    callback=parse_shape,
    metavar="NxCxHxW",
    help="The graph takes this shape and no other, e.g. 1x3x224x224; of whole images 1x480x640x3.",
)
@click.option(
    "--logits",
    is_flag=True,
    help="Give the scores before softmax, `logits`, in place of the posterior.",
)
@click.option(
    "--opset",
    type=click.IntRange(OPSETS[0], OPSETS[-1]),
    help="ONNX operator set, for older or newer runtimes; int8 and fp8 need 19, bf16 needs 22.  "
    "[default: 20, bf16: 22]",
)
@click.option(
    "--external-data",
    is_flag=True,
    help="Weights in a separate file beside the graph, D.fp32.onnx.data.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Also report what quantizing each layer alone costs (sensitivity.csv).",
)
@click.option(
    "--trt",
    "to_trt",
    is_flag=True,
    help="Build TensorRT engines from the ONNX files: those of --onnx, MODEL.onnx, or the last "
    "written.",
)
@click.option(
    "--trt-flavour",
    "flavour_name",
    type=Choice(tuple(FLAVOURS)),
    help="TensorRT for data-centre GPUs, or for RTX, which needs no GPU to build.  "
    "[default: the installed one]",
)
@click.option(
    "--target",
    "targets",
    default="",
    show_default=False,
    callback=parse_names,
    metavar="GPU,...",
    help="GPUs of an RTX engine, e.g. sm80,sm89.  [default: all that run the precision]",
)
@click.option(
    "--scales",
    "sides",
    callback=parse_scales,
    metavar="Q,...",
    help="Q that engines take, pixels, e.g. 256,384,512.  "
    "[default: by the net's S, as in the paper]",
)
@click.option(
    "--max-batch",
    default=ENGINES.max_batch,
    type=click.IntRange(1, MOST_BATCH),
    help="Largest batch of engines and of Triton.",
)
@click.option(
    "--profiles",
    default=ENGINES.profiles,
    type=Choice(PROFILE_NAMES),
    help="Optimization profiles: one per scale, or one for all.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Photos whose aspect ratios engines must take.  [default: up to 2:1, tuned for 4:3] "
    "With --max-top1-drop also the photos that choose layers and judge files.",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    help="Also write a Triton Inference Server model repository to this folder.",
)
@click.option(
    "--triton-photos",
    callback=parse_views,
    metavar=f"[{'|'.join(VIEW_NAMES)}],...",
    help="Also write models for Triton that take encoded image files: `crop` scores the centre "
    "crop, so that all photos share batches, `dense` the whole image, so that photos of one size "
    "do. Rescaled to the middle of the net's S; --exif says what is done with the EXIF rotation.",
)
@click.option(
    "--triton-backend",
    default=SERVING.backend,
    type=Choice(BACKEND_NAMES),
    help="What runs ONNX files in Triton: its onnxruntime backend, or, for servers without it, a "
    "model.py that calls the package onnxruntime on the CPU.",
)
@click.option(
    "--ncnn",
    "to_ncnn",
    is_flag=True,
    help="Write ncnn's files from the float32 ONNX file: that of --onnx, MODEL.onnx, or the last "
    "written. Float32 on CPUs, with Winograd's convolution.",
)
@click.option(
    "--input",
    "form",
    default=ONNX.form,
    type=Choice(tuple(INPUT_FORMS)),
    help="What the graph takes: RGB 0-255 as uint8 or float32, or float32 (x/255 - mean)/std.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="Classes in the order of the scores, for weights that do not name theirs: one class per "
    "line (a line is the whole name, or a wnid and a name), or JSON.",
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--crop", type=click.IntRange(32, MOST_SIDE), help=CROP_HELP)
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign every ONNX file with this private key (PEM, elliptic curve), manifest and separate "
    "weights included: D.fp32.onnx.sig. Needs the extra `signing`.",
)
@click.option(
    "--out",
    default="exported",
    type=click.Path(path_type=Path),
    help="Folder of the files.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Beginning of the names of the ONNX files and what is made from them, e.g. dogs for "
    "dogs.fp32.onnx.  [default: the configuration, A to E]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="Of calibration and check; as many processes decode images.  "
    "[default: the cores this process may use]",
)
@version_option
@hints(HINTS)
@interruptible(
    "files that were finished are kept, no half-written one is left; run the same command again"
)
def main(**options: Any) -> None:
    """Export MODEL, a checkpoint or weights of another project.

    MODEL is a file, a folder with config.json, torchvision:vgg16, timm:vgg16.tv_in1k,
    hf-hub:OWNER/NAME or an https:// address. Without MODEL: best.pt of the newest run. Every file
    is compared with PyTorch before it gets its name.
    E.g. vgg-export runs/D/best.pt --onnx --trt --precision fp16
    """
    request = ExportRequest(**options)
    refuse_contradictions(request)
    # Waiting threads of OpenMP must sleep, not spin beside those of NNPACK. PyTorch reads this
    # when it is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from export.command import export

    export(request)
