"""Measures exporting a full-width D.

    python benchmarks/export_cost.py

Each export runs in a process of its own: peak resident memory with mapped files (VmHWM), and the
seconds of every stage. The yardstick is measured right after it: writing the same bytes to disk
twice (fsync). The peer is torch.onnx.export of the same checkpoint, which checks nothing. Weights
are random.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
from alone import run_alone
from models import random_weights
from result_tables import environment_block, markdown_table, write_csv

from vgg_deploy.data.built_in import built_in
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered

CASES = {  # precision, whether with external data
    "fp32": ("fp32", False),
    "fp32, external data": ("fp32", True),
    "fp16": ("fp16", False),
    "int8": ("int8", False),
}
PEER = "torch.onnx.export"
STAGES = (  # start of a step's name, the column its time counts in
    ("reading", "read_s"),
    ("calibrat", "reference_s"),
    ("PyTorch's", "reference_s"),
    ("writing", "write_s"),
    ("checking", "check_s"),
    ("measuring the cost", "check_s"),
)
COLUMNS = {  # in Markdown
    "MB": "mb",
    "peak MiB": "peak_mib",
    "read s": "read_s",
    "reference s": "reference_s",
    "write s": "write_s",
    "check s": "check_s",
    "all s": "total_s",
    "user s": "user_s",
    "written twice s": "written_twice_s",
}
EXPLANATION = (
    "Peak: VmHWM of the process, resident memory with the files that it maps, PyTorch and ONNX "
    "Runtime themselves included. Seconds by the wall clock from the first byte read, imports "
    "aside; user: CPU seconds of the whole process. check: onnx, ONNX Runtime at six sizes, for "
    "fp16 and int8 also lint and float32 twin, for int8 also its cost on 4 held-out images; fsync "
    "and sha256. Written twice: the same number of bytes, with fsync. int8 calibrates on 4 "
    "built-in images. torch.onnx.export (dynamo) checks nothing."
)


def measure_export(name: str, source: Path, folder: Path, images: Path, threads: int) -> dict:
    """Export in a process of its own.

    Args:
        name: A key of CASES, or PEER.
        source: The checkpoint.
        folder: Where the files are written.
        images: For calibration.
        threads: Of PyTorch and ONNX Runtime.

    Returns:
        Seconds per stage and in total, processor seconds, and peak memory.
    """
    if name == PEER:
        row = run_alone("export_torch", source, folder, threads)
    else:
        precision, external = CASES[name]
        calibration = images if precision == "int8" else ""
        row = run_alone("export_ours", source, folder, precision, external, calibration, threads)
    steps = row.pop("steps")
    for (text, start), (_, end) in zip(steps, steps[1:], strict=False):
        (column,) = (column for beginning, column in STAGES if text.startswith(beginning))
        row[column] = row.get(column, 0) + end - start
    return row | {"total_s": steps[-1][1] - steps[0][1]}


def write_twice(files: list[Path], scratch: Path) -> float:
    """Seconds of writing the bytes of some files twice, each time to disk."""
    chunk = bytes(2**24)
    size = sum(file.stat().st_size for file in files)
    start = time.monotonic()
    for name in ("first", "second"):
        with open(scratch / name, "wb") as file:
            for offset in range(0, size, len(chunk)):
                file.write(chunk[: size - offset])
            file.flush()
            os.fsync(file.fileno())
    seconds = time.monotonic() - start
    for name in ("first", "second"):
        (scratch / name).unlink()
    return seconds


def cell(column: str, value: float) -> str:
    """A median; sizes without decimals, empty if the stage does not exist."""
    if pd.isna(value):
        return ""
    return f"{value:,.0f}" if column in ("mb", "peak_mib") else f"{value:.1f}"


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=3)
@click.option("--threads", type=click.IntRange(1), help="[default: the cores this process may use]")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(repeats: int, threads: int | None, out: Path) -> None:
    """Write export_cost.csv and export_cost.md."""
    threads, rows = threads or available_cores(), []
    with tempfile.TemporaryDirectory() as scratch:
        source = random_weights(NetSpec("D", numbered(1000)), Path(scratch))
        images = built_in("train", 8).root
        folder = Path(scratch) / "out"
        for name in [*CASES, PEER] * repeats:
            folder.mkdir()
            row = measure_export(name, source, folder, images, threads)
            files = [file for file in folder.iterdir() if file.suffix in (".onnx", ".data")]
            row |= {"written_twice_s": write_twice(files, Path(scratch))}
            megabytes = sum(file.stat().st_size for file in files) / 1e6
            rows.append({"export": name, "mb": megabytes, **row})
            shutil.rmtree(folder)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    write_csv(table, out / "export_cost.csv")
    medians = table.groupby("export", sort=False)[list(COLUMNS.values())].median()
    cells = [
        [name, *(cell(column, value) for column, value in row.items())]
        for name, row in medians.iterrows()
    ]
    text = (
        "# Exporting a full-width D\n\n"
        f"`python benchmarks/export_cost.py`, medians of {repeats}, {threads} threads. "
        f"{EXPLANATION}\n\n{markdown_table(['export', *COLUMNS], cells)}\n"
        f"{environment_block(threads)}"
    )
    write_text(out / "export_cost.md", text)
    print(text)


if __name__ == "__main__":
    main()
