"""vgg-bench: options in, tables and files out."""

import json
from pathlib import Path

import click

MEASURES = ("accuracy", "latency")


def parse_sizes(ctx, param, text: str) -> tuple[int, ...]:
    """256,384 -> (256, 384), ascending and unique"""
    try:
        sizes = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers; write {param.default}") from None
    if sizes[0] < 1:
        raise click.BadParameter(f"{sizes[0]} is below 1")
    return sizes


@click.command(context_settings={"show_default": True})
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--scales", "sides", default="256,384,512", callback=parse_sizes, help="Q: shorter image side at test time, pixels.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with val/<class>/* or an ILSVRC validation set. Without it: built-in pictures.")
@click.option("--measure", default="accuracy,latency", help="What to measure, comma-separated.")
@click.option("--flips/--no-flips", default=True, help="Also average with the mirrored image.")
@click.option("--batch-sizes", "batches", default="1,8", callback=parse_sizes, help="Of the latency table.")
@click.option("--accuracy-batch", default=16, type=click.IntRange(1), help="Most images a call when measuring accuracy.")
@click.option("--images", type=click.IntRange(1), help="Use so many images, spread evenly.")
@click.option("--device", default="cpu", type=click.Choice(("cpu", "cuda")), help="Where every model runs; never another one instead.")
@click.option("--threads", type=click.IntRange(1), help="On the CPU.  [default: the cores this process may use]")
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What an unreadable image does.")
@click.option("--out", default="results", type=click.Path(path_type=Path), help="Folder of the tables.")
def main(models, sides, data, measure, flips, batches, accuracy_batch, images, device, threads, on_error, out):
    """Measure MODELS (checkpoints and ONNX files): error and latency at each test scale.

    Without MODELS: what vgg-export wrote last. E.g. vgg-bench runs/D/best.pt exported/D.fp32.onnx --scales 256,384
    """
    wanted = tuple(part.strip() for part in measure.split(","))
    if not set(wanted) <= set(MEASURES):
        raise click.BadParameter(f"{measure!r}; choose from {', '.join(MEASURES)}", param_hint="--measure")
    from bench import tables
    from bench.environment import describe_environment
    from bench.run import check_sides, measure_accuracy, measure_latencies, open_models
    from vgg_deploy.data import open_dataset
    from vgg_deploy.files import write_text
    from vgg_deploy.machine import available_cores
    from vgg_deploy.places import newest_exports
    from vgg_deploy.scenes import built_in

    threads = threads or available_cores()
    if not models:
        models = newest_exports()
        click.echo(f"No model named: measuring the newest export, {', '.join(map(str, models))}")
    opened = open_models(list(models), device, threads)
    check_sides(opened, sides)
    document = ["# vgg-bench\n"]
    if "accuracy" in wanted:
        if data is None:
            click.echo("No --data: measuring on the built-in validation pictures")
            dataset = built_in("val", images or BUILT_IN_IMAGES)
        else:
            dataset = open_dataset(data, "val", on_error=on_error)
            dataset = dataset.subset(images) if images and images < len(dataset) else dataset
        click.echo(f"{len(opened)} model{'s' if len(opened) > 1 else ''} on {device}, {threads} threads; {len(dataset)} images of {dataset.root}")
        rows, skipped = measure_accuracy(opened, dataset, sides, flips, accuracy_batch, threads, on_error)
        for message in (*dataset.skipped, *skipped):
            click.echo(f"Left out: {message}", err=True)
        best = min(range(len(rows)), key=lambda i: rows[i].top1_error_pct)
        left_out = len(skipped) + len(dataset.skipped)
        title = f"Accuracy, dense evaluation, {rows[0].images} images" + (f", {left_out} left out" if left_out else "")
        tables.show(title, *tables.accuracy_cells(rows), best)
        tables.write_csv(rows, out / "accuracy.csv")
        document.append(tables.markdown(title, *tables.accuracy_cells(rows)))
    if "latency" in wanted:
        timed, samples = measure_latencies(opened, sides, batches, lambda text: click.echo(f"Unsteady: {text}", err=True))
        fastest = max(range(len(timed)), key=lambda i: timed[i].images_per_s)
        title = f"Latency, uint8 pictures to scores, {device}, {threads} threads"
        tables.show(title, *tables.latency_cells(timed), fastest)
        tables.write_csv(timed, out / "latency.csv")
        tables.write_frame(samples, out / "latency_samples.csv")
        document.append(tables.markdown(title, *tables.latency_cells(timed)))
    environment = describe_environment(threads)
    write_text(out / "environment.json", json.dumps(environment, indent=2) + "\n")
    document.append(f"## Environment\n\n```json\n{json.dumps(environment, indent=2)}\n```\n")
    write_text(out / "report.md", "\n".join(document))
    click.echo(f"Tables, raw times and environment: {out}/ (report.md, {', '.join(f'{m}.csv' for m in wanted)}, environment.json)")


BUILT_IN_IMAGES = 300
