"""vgg-bench: options in, tables, reports and a verdict out."""

import json
from pathlib import Path

import click

from vgg_deploy.errors import CheckFailed, interruptible

MEASURES = ("accuracy", "latency")
BUILT_IN_IMAGES = 200


def parse_sizes(ctx, param, text: str | None) -> tuple[int, ...] | None:
    """256,384 -> (256, 384), ascending and unique"""
    if text is None:
        return None
    try:
        sizes = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers; write {EXAMPLES[param.name]}") from None
    if sizes[0] < 1:
        raise click.BadParameter(f"{sizes[0]} is below 1")
    return sizes


def parse_list(ctx, param, text: str) -> tuple[str, ...]:
    """torch,torch-compile -> ("torch", "torch-compile"), each once and known"""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in KNOWN[param.name]:
            raise click.BadParameter(f"{name!r} is none; choose from {', '.join(KNOWN[param.name])}")
    return names


KNOWN = {
    "runtime_names": ("torch", "torch-compile", "onnxruntime", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx"),
    "precisions": ("fp32", "fp16", "bf16"),
}
EXAMPLES = {"sides": "256,384,512", "batches": "1,8"}


@click.command(context_settings={"show_default": True})
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--scales", "sides", callback=parse_sizes, help="Q: shorter image side at test time, pixels.  [default: by each net's S, as in the paper]")
@click.option("--protocols", help="dense, multicrop, multicrop+dense, centre, ten, googlenet; dense-softmax-first, multicrop+dense-softmax-first: "
              "softmax before the score map is averaged.  [default: dense]")  # fmt: skip
@click.option("--fuse", multiple=True, metavar="NAME,NAME", help="Also the mean posterior of these models, named as in the tables; may be repeated.")
@click.option("--paper-tables", is_flag=True, help="Tables 3-7 of the paper, its numbers beside these models'.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with val/<class>/* or an ILSVRC validation set. Without it: built-in pictures.")
@click.option("--measure", default="accuracy,latency", help="What to measure, comma-separated.")
@click.option("--flips/--no-flips", default=True, help="Also average with the mirrored image (ten and googlenet always do).")
@click.option("--max-top1-drop", type=click.FloatRange(0), help="Gate: most points of top-1 accuracy that a model may lose against the first.")
@click.option("--max-top5-drop", type=click.FloatRange(0), help="Gate: the same for top-5.")
@click.option("--min-agreement", type=click.FloatRange(0, 100), help="Gate: least images in per cent with the first model's best class.")
@click.option("--batch-sizes", "batches", default="1,8", callback=parse_sizes, help="Of the latency table.")
@click.option("--accuracy-batch", default=16, type=click.IntRange(1), help="Most pictures a call when measuring accuracy.")
@click.option("--images", type=click.IntRange(1), help="Use so many images, spread evenly.")
@click.option("--device", default="cpu", type=click.Choice(("cpu", "cuda")), help="Where every model runs; never another one instead.")
@click.option("--runtimes", "runtime_names", default="", show_default=False, callback=parse_list,
              help="Ways to run the files, each where it fits: torch, torch-compile; onnxruntime, onnxruntime-tensorrt; tensorrt, tensorrt-rtx.  "
              "[default: torch, onnxruntime, the engine's own]")  # fmt: skip
@click.option("--torch-precision", "precisions", default="fp32", callback=parse_list, help="Of checkpoints in PyTorch: fp32, fp16, bf16.")
@click.option("--cuda-graphs", is_flag=True, help="Replay recorded kernels, a recording a shape (torch and TensorRT on a GPU).")
@click.option("--side-by-side", is_flag=True, help="Also run all models in turn (A B A B) and give the ratio of their times.")
@click.option("--threads", type=click.IntRange(1), help="On the CPU.  [default: the cores this process may use]")
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What an unreadable image does.")
@click.option("--cells", default="cells", type=click.Path(path_type=Path), help="Folder of stored posteriors; what is there is not computed again.")
@click.option("--cell-type", default="float32", type=click.Choice(("float32", "float16")), help="Of stored posteriors; float16 halves the space and "
              "rounds to 3 digits.")  # fmt: skip
@click.option("--out", default="results", type=click.Path(path_type=Path), help="Folder of tables and reports.")
@interruptible("tables that were written stay")
def main(models, sides, protocols, fuse, paper_tables, data, measure, flips, max_top1_drop, max_top5_drop, min_agreement,
         batches, accuracy_batch, images, device, runtime_names, precisions, cuda_graphs, side_by_side, threads, on_error, cells, cell_type, out):  # fmt: skip
    """Measure MODELS (checkpoints, ONNX files, engines): error and latency at each test scale.

    Without MODELS: what vgg-export wrote last. With a limit (--max-top1-drop ...) the first model is the reference, and the
    command ends with 1 if another falls behind it. E.g. vgg-bench runs/D/best.pt exported/D.fp32.onnx --scales 256,384
    """
    wanted = tuple(part.strip() for part in measure.split(","))
    if not set(wanted) <= set(MEASURES):
        raise click.BadParameter(f"{measure!r}; choose from {', '.join(MEASURES)}", param_hint="--measure")
    if paper_tables and (sides or protocols or fuse):
        raise click.UsageError("--paper-tables fixes scales, protocols and fusions; leave --scales, --protocols and --fuse out")
    from bench import outputs
    from bench.environment import describe_environment
    from bench.gate import Limits
    from bench.models import Ways, check_sides, open_models, runnable
    from bench.paper import paper_rows
    from bench.report.contents import write_report
    from bench.run import Storage, measure_accuracy, measure_latencies
    from bench.selection import select_rows
    from bench.turns import measure_turns
    from vgg_deploy.data import open_dataset
    from vgg_deploy.files import write_text
    from vgg_deploy.machine import available_cores
    from vgg_deploy.places import newest_exports
    from vgg_deploy.scenes import built_in

    limits = Limits(max_top1_drop, max_top5_drop, min_agreement)
    if limits and "accuracy" not in wanted:
        raise click.UsageError("a limit is judged on accuracy; add accuracy to --measure")
    threads = threads or available_cores()
    if not models:
        models, others = runnable(newest_exports(), device)
        click.echo(f"No model named: measuring the newest export, {', '.join(map(str, models))}")
        if not models:
            raise click.UsageError(f"none of the newest exports runs on the CPU ({', '.join(map(str, others))}); add --device cuda, or name a model")
        if others:
            click.echo(f"Not on the CPU, add --device cuda where there is a GPU: {', '.join(map(str, others))}")
    if limits and len(models) < 2:
        raise click.UsageError("a limit compares models with the first; name the reference and at least one more")
    opened = open_models(list(models), Ways(device, threads, runtime_names, precisions or ("fp32",), cuda_graphs))
    if side_by_side and len(opened) < 2:
        raise click.UsageError("--side-by-side compares with the first model; name at least two, or several --runtimes or --torch-precision")
    rows = list(dict.fromkeys(row for _, row in paper_rows(opened))) if paper_tables else select_rows(opened, protocols, sides, flips, fuse)
    if sides:
        check_sides(opened, sides)
    environment = describe_environment(threads)
    sections, tables_of_paper, in_turn, dataset, accuracy, timed = [], [], [], None, None, None
    if "accuracy" in wanted:
        if data is None:
            click.echo("No --data: measuring on the built-in validation pictures")
            dataset = built_in("val", images or BUILT_IN_IMAGES)
        else:
            dataset = open_dataset(data, "val", on_error=on_error)
            dataset = dataset.subset(images) if images and images < len(dataset) else dataset
        click.echo(f"{len(opened)} model{'s' if len(opened) > 1 else ''} on {device}, {threads} threads; {len(dataset)} images of {dataset.root}")
        storage = Storage(cells, cell_type)
        with interruptible(f"what was scored is kept in {cells}, the same command goes on from there"):
            accuracy = measure_accuracy(opened, rows, dataset, storage, accuracy_batch, threads, on_error, gated=bool(limits))
        for message in (*dataset.skipped, *accuracy.measured.skipped):
            click.echo(f"Left out: {message}", err=True)
        if accuracy.scored:
            if paper_tables:
                tables_of_paper = outputs.paper_section(opened, accuracy, str(dataset.root), out)
            sections += tables_of_paper + outputs.accuracy_section(accuracy, len(accuracy.measured.skipped) + len(dataset.skipped), out)
    if "latency" in wanted:
        unsteady = lambda text: click.echo(f"Unsteady: {text}", err=True)  # noqa: E731
        timed = measure_latencies(opened, lambda model: sides or model.runtime.spec.test_sides, batches, unsteady)
        sections += outputs.latency_section(*timed, out)
    if side_by_side:
        turns = measure_turns(opened, lambda model: sides or model.runtime.spec.test_sides, batches)
        in_turn = outputs.side_by_side_section(*turns, out)
        sections += in_turn
    write_text(out / "environment.json", json.dumps(environment, indent=2) + "\n")
    outputs.write_report_md(sections, environment, out)
    write_report(out / "report.html", opened, dataset, accuracy, timed, in_turn, tables_of_paper, environment)
    files = ", ".join(dict.fromkeys(section.file for section in sections))
    click.echo(f"Report: {out / 'report.html'}; tables, raw times and environment beside it: report.md, {files}, environment.json")
    if limits:
        checks = outputs.judge(opened, accuracy, limits, out)
        if not all(check.passed for check in checks):
            raise CheckFailed(f"the gate is closed; {out / 'gate.json'} and {out / 'gate.xml'} tell more")
