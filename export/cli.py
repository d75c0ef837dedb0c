"""vgg-export: options in, files and a table out."""

import json
from pathlib import Path

import click

from vgg_deploy.errors import interruptible


@click.command(context_settings={"show_default": True})
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--onnx", "to_onnx", is_flag=True, help="Write an ONNX file: dynamic batch, height and width.")
@click.option("--input", "form", default="uint8", type=click.Choice(("uint8", "float32", "normalised")),
              help="What the graph takes: RGB 0-255 as uint8 or float32, or float32 (x/255 - mean)/std.")  # fmt: skip
@click.option("--classes", type=click.Path(path_type=Path), help="Class list of foreign weights: a synset list or a class_index.json.")
@click.option("--out", default="exported", type=click.Path(path_type=Path), help="Folder of the files.")
@click.option("--threads", type=click.IntRange(1), help="Of the check.  [default: the cores this process may use]")
@interruptible("no half-written file is left, and an older one is untouched")
def main(model, to_onnx, form, classes, out, threads):
    """Export MODEL, a checkpoint or foreign weights, e.g. vgg-export runs/D/best.pt --onnx

    Without MODEL: best.pt of the newest run. Every file is compared with PyTorch before it gets its name.
    """
    if not to_onnx:
        raise click.UsageError("nothing to write; add --onnx")
    from export.release import export_onnx
    from vgg_deploy.classes import read_class_list
    from vgg_deploy.files import write_text
    from vgg_deploy.machine import available_cores
    from vgg_deploy.places import LAST_EXPORT, newest_run
    from vgg_deploy.progress import console

    if model is None:
        model = newest_run() / "best.pt"
        click.echo(f"No model named: exporting the newest run, {model}")
    listed = read_class_list(classes) if classes else None
    exported = [export_onnx(model, out, form, listed, threads or available_cores(), console.print)]
    show(exported)
    write_text(out / LAST_EXPORT, json.dumps([summary(e) for e in exported], indent=2, ensure_ascii=False) + "\n")


def summary(exported) -> dict:
    """One row of the table and of export.json."""
    comparisons = exported.comparisons
    return {
        "file": exported.path.name,
        "arch": exported.artifact.spec.arch,
        "precision": exported.artifact.precision,
        "input": exported.artifact.input,
        "bytes": exported.size,
        "largest_score_difference": max(c.score_difference for c in comparisons),
        "largest_posterior_difference": max(c.posterior_difference for c in comparisons),
        "top1_agreement": f"{sum(c.agree for c in comparisons)}/{sum(c.batch for c in comparisons)}",
        "sizes_checked": len({(c.height, c.width) for c in comparisons}),
    }


def show(exported) -> None:
    """The comparisons, then a line a file."""
    from rich.table import Table

    from vgg_deploy.progress import results

    console = results()
    for e in exported:
        table = Table(title=f"{e.path.name} against PyTorch", title_justify="left")
        for column in ("picture (H x W)", "batch", "score map", "largest score", "largest difference", "of posteriors", "top-1 agrees"):
            table.add_column(column, justify="right")
        for c in e.comparisons:
            table.add_row(f"{c.height} x {c.width}", str(c.batch), f"{c.map[0]} x {c.map[1]}", f"{c.largest_score:.3g}",
                          f"{c.score_difference:.1e}", f"{c.posterior_difference:.1e}", f"{c.agree} of {c.batch}")  # fmt: skip
        console.print(table)
    for e in exported:
        row = summary(e)
        console.print(
            f"{e.path}  {row['precision']}  {row['bytes'] / 1e6:.1f} MB  input {row['input']}  largest difference "
            f"{row['largest_score_difference']:.1e}  top-1 agreement {row['top1_agreement']}"
        )  # fmt: skip
