"""Measures building TensorRT-RTX engines of a full-width D without a GPU.

    python benchmarks/engine_build.py

Each precision in a process of its own that imports nothing else: seconds in the builder, peak
memory, size. Weights are random.
"""

import tempfile
from pathlib import Path

import click
import pandas as pd
import torch
from alone import run_alone
from models import exports, random_weights
from result_tables import markdown_table, write_csv

from export.release import ExportOptions
from vgg_deploy.data.built_in import built_in
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")


def export_all(folder: Path) -> list[Path]:
    """A random D in every precision, quantized with the built-in images."""
    torch.set_num_threads(available_cores())
    weights = random_weights(NetSpec("D", numbered(1000)), folder)
    calibration = built_in("train", 8).root
    options = ExportOptions(PRECISIONS, calibration=calibration, calibration_images=8)
    return exports(weights, folder, options)


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=3)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(repeats: int, out: Path) -> None:
    """Write engine_build.csv and engine_build.md."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = export_all(Path(scratch))
        rows = [run_alone("build_engine", path) for path in paths for _ in range(repeats)]
    table = pd.DataFrame(rows)
    write_csv(table, out / "engine_build.csv")
    medians = table.groupby("precision", sort=False).median(numeric_only=True)
    heads = ["precision", "build s", "peak MiB", "engine MiB", "activations MiB"]
    cells = [
        [
            precision,
            f"{row.build_s:.1f}",
            f"{row.peak_mib:.0f}",
            f"{row.engine_mib:.0f}",
            f"{row.activation_mib:.0f}",
        ]
        for precision, row in medians.iterrows()
    ]
    version = rows[0]["tensorrt_rtx"]
    text = (
        f"# Building engines of a full-width D, tensorrt-rtx {version}, sm89, no GPU\n\n"
        f"`python benchmarks/engine_build.py`, medians of {repeats}; profile 1x224x224 / "
        f"8x256x256 / 32x512x512.\n\n{markdown_table(heads, cells)}"
    )
    write_text(out / "engine_build.md", text)
    print(text)


if __name__ == "__main__":
    main()
