"""vgg-export: options in, files and tables out."""

from pathlib import Path

import click

from export.hints import HINTS
from export.settings.export_options import EngineOptions, ExportOptions
from vgg_deploy.command_line import Command, parse_channels
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    CROP_HELP,
    MEAN_HELP,
    NOTHING_STATED,
    ORDER_HELP,
    STD_HELP,
    StatedInput,
)

PRECISION_NAMES = ("fp32", "fp16", "bf16", "int8", "int8-cpu", "fp8")
METHOD_NAMES = ("max", "percentile", "mse", "entropy")
WANTED, ENGINES = ExportOptions(), EngineOptions()  # their fields are the defaults


def parse_names(ctx, param, text: str) -> tuple[str, ...]:
    """conv1_1,fc8 -> ("conv1_1", "fc8"), each once"""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def parse_precisions(ctx, param, text: str) -> tuple[str, ...]:
    names = parse_names(ctx, param, text)
    for name in names:
        if name not in PRECISION_NAMES:
            raise click.BadParameter(f"{name!r} is none; choose from {', '.join(PRECISION_NAMES)}")
    if not names:
        raise click.BadParameter(f"names none; choose from {', '.join(PRECISION_NAMES)}")
    return names


def parse_percent(ctx, param, value: float | None) -> float | None:
    """Refuses nan, which click's ranges let pass."""
    if value is not None and value != value:
        raise click.BadParameter("nan is not a percentage; write e.g. 10")
    return value


def parse_scales(ctx, param, text: str | None) -> tuple[int, ...] | None:
    try:
        return text and tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list of whole numbers; write 256,384,512"
        ) from None


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--onnx", "to_onnx", is_flag=True, help="Write ONNX files: dynamic batch, height and width."
)
@click.option("--precision", "precisions", default=",".join(WANTED.precisions), callback=parse_precisions,
              help="fp32, fp16, bf16; int8 and fp8 for TensorRT, int8-cpu for ONNX Runtime on CPUs. Comma-separated, a file each.")  # fmt: skip
@click.option("--calibration", type=click.Path(), help="Folder or tar shards of images like those that the net will see, to quantize by (of a data "
              "set its train half).  [default: the built-in ones, for nets trained on them]")  # fmt: skip
@click.option("--calibration-images", default=WANTED.calibration_images, type=click.IntRange(2), help="Number of images used, spread evenly over the "
              "folder. Every eighth (8 to 64) is held out from the ranges and measures the cost.")  # fmt: skip
@click.option(
    "--calibration-method",
    "method",
    default=WANTED.method,
    type=click.Choice(METHOD_NAMES),
    help="Where to clip activations.",
)
@click.option("--max-cost", type=click.FloatRange(0, min_open=True), callback=parse_percent, metavar="PERCENT",
              help="Write no quantized file whose scores differ from the float32 net's by more than this (root mean square on the held-out images), "
              "and end with 1.  [default: warn above 30]")  # fmt: skip
@click.option(
    "--on-error",
    default=WANTED.on_error,
    type=click.Choice(("stop", "skip")),
    help="What an unreadable calibration image does.",
)
@click.option("--quantize-weights", default="per-channel" if WANTED.per_channel else "per-tensor",
              type=click.Choice(("per-channel", "per-tensor")),
              help="Scales of weights: an output channel is more accurate, a tensor is faster in TensorRT.")  # fmt: skip
@click.option(
    "--keep",
    default="",
    show_default=False,
    callback=parse_names,
    help="Layers that are not quantized, e.g. conv1_1,fc6. fc8 never is.",
)
@click.option(
    "--external-data",
    is_flag=True,
    help="Weights in a file of their own beside the graph, D.fp32.onnx.data.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Also tell what quantizing each layer alone costs (sensitivity.csv).",
)
@click.option(
    "--trt",
    "to_trt",
    is_flag=True,
    help="Build TensorRT engines from the ONNX files: those of --onnx, MODEL.onnx, or the last written.",
)
@click.option("--trt-flavour", "flavour_name", type=click.Choice(("tensorrt", "rtx")), help="TensorRT for data-centre GPUs, or for RTX, which needs no GPU "
              "to build.  [default: the one installed]")  # fmt: skip
@click.option("--target", "targets", default="", show_default=False, callback=parse_names,
              help="GPUs of an RTX engine, e.g. sm80,sm89.  [default: all that run the precision]")  # fmt: skip
@click.option(
    "--scales",
    "sides",
    callback=parse_scales,
    help="Q that engines take, pixels, e.g. 256,384,512.  [default: by the net's S, as in the paper]",
)
@click.option(
    "--max-batch",
    default=ENGINES.max_batch,
    type=click.IntRange(1),
    help="Largest batch of engines and of Triton.",
)
@click.option(
    "--profiles",
    default=ENGINES.profiles,
    type=click.Choice(("per-scale", "covering")),
    help="Optimization profiles: one a scale, or one for all.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Photos whose aspect ratios engines must take.  [default: up to 2:1, tuned for 4:3]",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    help="Also write a Triton Inference Server model repository there.",
)
@click.option("--ncnn", "to_ncnn", is_flag=True, help="Write ncnn's files from the float32 ONNX file: that of --onnx, MODEL.onnx, or the last written. "
              "Float32 on CPUs, with Winograd's convolution.")  # fmt: skip
@click.option("--input", "form", default=WANTED.form, type=click.Choice(("uint8", "float32", "normalised")),
              help="What the graph takes: RGB 0-255 as uint8 or float32, or float32 (x/255 - mean)/std.")  # fmt: skip
@click.option("--classes", type=click.Path(path_type=Path), help="Classes in the order of the scores, for weights that do not name theirs: one class a line "
              "(a line is the whole name, or a wnid and a name), or JSON.")  # fmt: skip
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--crop", type=click.IntRange(32), help=CROP_HELP)
@click.option(
    "--out", default="exported", type=click.Path(path_type=Path), help="Folder of the files."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Of calibration and check; as many decode images.  [default: the cores this process may use]",
)
@hints(HINTS)
@interruptible("no half-written file is left, and an older one is untouched")
def main(model, to_onnx, precisions, calibration, calibration_images, method, max_cost, on_error, quantize_weights, keep, external_data,
         sensitivity, to_trt, flavour_name, targets, sides, max_batch, profiles, data, triton, to_ncnn, form, classes, mean, std,
         channel_order, crop, out, threads):  # fmt: skip
    """Export MODEL, a checkpoint or foreign weights, e.g. vgg-export runs/D/best.pt --onnx --trt --precision fp16

    Without MODEL: best.pt of the newest run. Every file is compared with PyTorch before it gets its name.
    """
    if not (to_onnx or to_trt or to_ncnn):
        raise click.UsageError("nothing to write; add --onnx, --trt or --ncnn, or several of them")
    is_onnx = model is not None and model.suffix == ".onnx"
    if to_onnx and is_onnx:
        raise click.UsageError(
            f"{model}: is an ONNX file already; leave --onnx out to make an engine or ncnn's files of it"
        )
    if not to_onnx and model is not None and not is_onnx:
        raise click.UsageError(
            f"{model}: engines and ncnn's files are made from ONNX files; add --onnx, or name the .onnx file"
        )
    if external_data and not to_onnx:
        raise click.UsageError("--external-data is how ONNX files are written; add --onnx")
    if sensitivity and not to_onnx:
        raise click.UsageError("--sensitivity is measured on weights; add --onnx")
    if to_ncnn and to_onnx and "fp32" not in precisions:
        raise click.UsageError("--ncnn is made from float32; add fp32 to --precision")
    stated = StatedInput(mean, std, channel_order, crop)
    if not to_onnx and (classes or stated != NOTHING_STATED):
        raise click.UsageError(
            "--classes, --mean, --std, --channel-order and --crop describe weights; add --onnx"
        )
    from export import outputs
    from export.tensorrt.build_all import build_engines, plan_engines
    from export.tensorrt.triton import write_repository
    from vgg_deploy.files import write_text
    from vgg_deploy.machine import available_cores
    from vgg_deploy.newest import LAST_EXPORT, newest_exports, newest_run
    from vgg_deploy.progress import console

    say, exported, engines, in_ncnn, failed = console.print, [], [], [], None

    def list_files() -> None:
        write_text(out / LAST_EXPORT, outputs.listing([*exported, *in_ncnn], files, engines, out))

    threads = threads or available_cores()
    wanted_engines = EngineOptions(flavour_name, targets, sides, max_batch, profiles, data)
    flavour = plan_engines(wanted_engines, precisions if to_onnx else ()) if to_trt else None
    if to_ncnn:
        from export.write_ncnn import export_ncnn
        from vgg_deploy.runtimes.ncnn import load_ncnn

        load_ncnn()  # missing, it is told before anything is written
    if to_onnx:
        import torch  # engines are built without it, in less memory

        from export.release import PartlyExported, export_onnx
        from vgg_deploy.net.class_lists import read_class_list

        torch.set_num_threads(threads)
        if model is None:
            model = newest_run() / "best.pt"
            click.echo(f"No model named: exporting the newest run, {model}")
        listed = read_class_list(classes) if classes else None
        wanted = ExportOptions(precisions, form, keep, quantize_weights == "per-channel", calibration, calibration_images, method, external_data,
                        max_cost, on_error)  # fmt: skip
        try:
            exported = export_onnx(model, out, wanted, listed, threads, say, stated)
        except PartlyExported as error:
            if not error.exported:
                raise
            exported, failed = error.exported, error
            say(f"Warning: {error.message}. Continuing with what was written")
        files = [e.path for e in exported]
        list_files()
        if sensitivity:
            from export.quantize.sensitivity import report_sensitivity  # pandas, 55 MB of memory

            report_sensitivity(model, out, wanted, listed, threads, say, stated)
        outputs.show(exported)
    else:
        files = (
            [model] if is_onnx else [path for path in newest_exports(out) if path.suffix == ".onnx"]
        )
        if not files:
            raise click.UsageError(
                f"{out / LAST_EXPORT}: lists no ONNX files to work from; add --onnx, or name one"
            )
    if to_trt:
        engines = build_engines(files, flavour, wanted_engines, say)
        outputs.show_engines(engines)
    if to_ncnn:
        floats = [path for path in files if is_onnx or path.name.endswith(".fp32.onnx")]
        if failed and not floats:
            raise failed
        if not floats:
            raise click.UsageError(
                f"{out / LAST_EXPORT}: lists no float32 ONNX file; add --onnx, or name one"
            )
        in_ncnn = [export_ncnn(path, threads, say) for path in floats]
        outputs.show(in_ncnn)
    list_files()
    if triton:
        write_repository(triton, [*files, *(e.path for e in engines)], max_batch, say)
    if failed:
        raise failed
