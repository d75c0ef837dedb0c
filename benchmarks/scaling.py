"""Measures time and memory against the work, in exact multiply-accumulates.

    python benchmarks/scaling.py [--short]

1. One float32 call of a full-width D in ONNX Runtime and PyTorch, against the size of one image (Q
   224 to 768, square and not) and against the batch at 224 x 224. Rounds call all shapes in turn.
2. Dense scoring by the bench against the number of images, each number in a process of its own.
   Its memory must not grow.

Each series gets two least-squares lines: one through the origin, with the time per
multiply-accumulate as its slope, and one with an intercept. Deviations from the first are given in
per cent, and by layer: the time of each stage beyond what the line gives to its
multiply-accumulates, from ONNX Runtime's profiler and from PyTorch's hooks.
"""

from pathlib import Path

import click
from models import USUAL, exports, random_weights
from result_tables import environment_block, write_csv
from scaling_law.calls import call_points
from scaling_law.lines import by_layers, with_lines
from scaling_law.plot import plot
from scaling_law.report import document
from scaling_law.scoring import scoring_points
from scaling_law.work import BATCH, SIZE, InputShape

from export.release import ExportOptions
from vgg_deploy.data.built_in import built_in
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.net.spec import NetSpec, numbered

SIZES = "224x224,256x256,320x320,384x384,448x448,512x512,640x640,768x768,256x341,384x512,512x683"
SMALL = {"arch": "D", "width": 1 / 8, "crop": 96}  # the net that scores images, at Q 96
FLOAT32 = ExportOptions(("fp32",))


def whole_numbers(text: str, separator: str = ",") -> tuple[int, ...]:
    return tuple(map(int, text.split(separator)))


@click.command(context_settings={"show_default": True})
@click.option("--arch", default="D")
@click.option("--width", default=1.0)
@click.option("--sizes", default=SIZES, help="Height x width, comma-separated.")
@click.option("--batches", default="1,2,4,8,16")
@click.option("--counts", default="200,400,800", help="Numbers of images to score.")
@click.option("--threads", default=2)
@click.option("--rounds", default=3)
@click.option("--short", is_flag=True, help="Q up to 384, batches up to 4, 400 images, 2 rounds.")
@click.option(
    "--kept",
    default="build/scaling",
    type=click.Path(path_type=Path),
    help="Folder of the nets, for the next run.",
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    arch: str,
    width: float,
    sizes: str,
    batches: str,
    counts: str,
    threads: int,
    rounds: int,
    short: bool,
    kept: Path,
    out: Path,
) -> None:
    """Write scaling.csv, scaling_layers.csv, scaling.md and scaling.png."""
    if short:
        sizes, batches = "224x224,256x256,384x384,256x341", "1,2,4"
        counts, rounds = "100,200,400", 2
    spec = NetSpec(arch, numbered(1000), width=width, preprocessing=USUAL)
    weights = random_weights(spec, kept)
    series = {
        SIZE: [InputShape(1, *whole_numbers(size, "x")) for size in sizes.split(",")],
        BATCH: [InputShape(batch, spec.crop, spec.crop) for batch in whole_numbers(batches)],
    }
    files = [*exports(weights, kept, FLOAT32), weights]
    points, layers = call_points(files, spec, series, rounds, threads)

    classes = built_in("val", 1).classes
    small_spec = NetSpec(**SMALL, classes=classes, preprocessing=USUAL)
    small = random_weights(small_spec, kept / "small")
    (small_onnx,) = exports(small, kept / "small", FLOAT32)
    points += scoring_points(small_onnx, whole_numbers(counts), threads, rounds)

    table = with_lines(points)
    excess = by_layers(table, spec, layers)
    write_csv(table, out / "scaling.csv")
    write_csv(excess, out / "scaling_layers.csv")
    text = document(table, excess, spec, threads, rounds)
    text = f"{text}\n\n{environment_block(threads)}"
    write_text(out / "scaling.md", text)
    with whole_file(out / "scaling.png") as partial:
        plot(table).savefig(partial, format="png", dpi=150, facecolor="white")
    print(text)


if __name__ == "__main__":
    main()
