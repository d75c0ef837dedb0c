"""Measures exporting a full-width D.

    python benchmarks/export_cost.py [--old CHECKOUT] [--photos DIR]

Each export runs in a process of its own: peak resident memory with mapped files (VmHWM), and the
seconds of every stage. The yardstick is measured right after it: writing the same bytes to disk
twice (fsync). The peer is torch.onnx.export of the same checkpoint, which checks nothing. With
--old another checkout of this repository is called in turn. Weights are random.

With --photos calibration and sensitivity are timed beside a forward pass of the float net over the
same photos. The result files are made of what earlier runs with the same --work measured too, so
the parts can run one after the other.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
from alone import run_alone
from models import random_weights
from result_tables import environment_block, markdown_table, write_csv

from export.settings.precision import PRECISIONS
from vgg_deploy.data.built_in import built_in
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered

CASES = {  # precision, whether with external data
    "fp32": ("fp32", False),
    "fp32, external data": ("fp32", True),
    "fp16": ("fp16", False),
    "bf16": ("bf16", False),
    "int8": ("int8", False),
    "int8-cpu": ("int8-cpu", False),
    "fp8": ("fp8", False),
    "int4-cpu": ("int4-cpu", False),
}
PEER = "torch.onnx.export"
AS_THE_COMMAND = {"OMP_WAIT_POLICY": "PASSIVE"}  # vgg-export sets it before it imports PyTorch
STAGES = (  # start of a step's name, the column its time counts in
    ("reading", "read_s"),
    ("calibrat", "reference_s"),
    ("rounding", "reference_s"),
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
    "CPU s": "cpu_s",
    "written twice s": "written_twice_s",
}
EXPLANATION = (
    "Peak: VmHWM of the process, resident memory with the files that it maps, PyTorch and ONNX "
    "Runtime themselves included. Seconds by the wall clock from the first byte read, imports "
    "aside; CPU: user and system seconds of the whole process, imports included. reference: "
    "PyTorch's outputs, for quantized files also calibration on 4 built-in images, the scores of 4 "
    "held-out images, and the rounding to 4 bits. check: onnx, ONNX Runtime at all check sizes, "
    "for all but fp32 also lint and float32 twin, for quantized files also the cost on the "
    "held-out images; fsync and sha256. Written twice: the same number of bytes, with fsync. "
    "torch.onnx.export (dynamo) checks nothing. Waiting threads of OpenMP sleep, as under "
    "vgg-export."
)
PHOTOS = (
    "Wall time over that of a forward pass of the float net (the PyTorch runtime, batches of up to "
    "8) over the same photos at Q 256. Both start from files and decode in as many processes. "
    "Called in turn; median, and range of the rounds."
)


def measure_export(
    name: str, source: Path, folder: Path, images: Path, threads: int, tree: Path | None
) -> dict:
    """Export in a process of its own.

    Args:
        name: A key of CASES, or PEER.
        source: The checkpoint.
        folder: Where the files are written.
        images: For calibration.
        threads: Of PyTorch and ONNX Runtime.
        tree: Another checkout, or None for this one.

    Returns:
        Seconds per stage and in total, processor seconds, and peak memory.
    """
    if name == PEER:
        row = run_alone("export_torch", source, folder, threads)
    else:
        precision, external = CASES[name]
        calibration = images if PRECISIONS[precision].is_quantized else ""
        words = (source, folder, precision, external, calibration, threads)
        row = run_alone("export_ours", *words, tree=tree, **AS_THE_COMMAND)
    steps = row.pop("steps")
    column = "read_s"
    for (text, start), (_, end) in zip(steps, steps[1:], strict=False):
        # what starts no stage, such as what is assumed of the weights, belongs to the last one
        column = next((c for beginning, c in STAGES if text.startswith(beginning)), column)
        row[column] = row.get(column, 0) + end - start
    cpu_s = row["user_s"] + row["system_s"]
    return row | {"total_s": steps[-1][1] - steps[0][1], "cpu_s": cpu_s}


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


def measure_photos(
    source: Path, photos: Path, calibrated: int, rounds: int, tried: int, threads: int, code: str
) -> list[dict]:
    """Seconds of calibration and sensitivity beside forward passes, one row each and round.

    Args:
        source: The checkpoint.
        photos: A folder.
        calibrated: Photos of a round.
        rounds: Of calibration.
        tried: Photos of sensitivity; 0: it is not measured.
        threads: Of PyTorch, and processes that decode.
        code: Another checkout, or empty for this one.
    """
    tree = Path(code) if code else None
    words = (source, photos, calibrated, rounds, tried, threads)
    seconds = run_alone("photos_cost", *words, tree=tree, **AS_THE_COMMAND)
    pairs = [("calibration", calibrated, "calibrate", "forward")]
    if tried:
        pairs.append(("sensitivity, int8", tried, "sensitivity", "forward, tried"))
    return [
        {"code": "old" if code else "new", "step": step, "photos": count, "s": own, "forward_s": f}
        for step, count, name, forward in pairs
        for own, f in zip(seconds[name], seconds[forward], strict=True)
    ]


def exports_text(rows: list[dict]) -> str:
    """The table of exports."""
    table = pd.DataFrame(rows)
    medians = table.groupby(["export", "code"], sort=False)[list(COLUMNS.values())].median()
    cells = [
        [name, code, *(cell(column, value) for column, value in row.items())]
        for (name, code), row in medians.iterrows()
    ]
    repeats = int(table.groupby(["export", "code"]).size().min())
    table = markdown_table(["export", "code", *COLUMNS], cells)
    return f"Medians of {repeats}. {EXPLANATION}\n\n{table}"


def photos_text(rows: list[dict]) -> str:
    """The table of calibration and sensitivity."""
    if not rows:
        return ""
    table = pd.DataFrame(rows)
    table["ratio"] = table.s / table.forward_s
    cells = []
    for (step, code, count), group in table.groupby(["step", "code", "photos"], sort=False):
        span = f"{group.ratio.min():.2f}-{group.ratio.max():.2f}" if len(group) > 1 else ""
        photos = " + ".join([str(count)] * len(group))
        cells.append([step, code, photos, f"{group.ratio.median():.2f}", span])
    table = markdown_table(["step", "code", "photos", "forward passes", "range"], cells)
    return f"\n## Calibration and sensitivity\n\n{PHOTOS}\n\n{table}"


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=3, help="Of every export, and rounds of calibration.")
@click.option("--threads", type=click.IntRange(1), help="[default: the cores this process may use]")
@click.option(
    "--only", multiple=True, type=click.Choice([*CASES, PEER]), help="Exports to measure."
)
@click.option("--old", default="", help="Another checkout, called in turn.")
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--calibrated", default=64, help="Photos of a round of calibration.")
@click.option("--tried", default=64, help="Photos of sensitivity; 0: it is not measured.")
@click.option("--work", default="results/export_cost", type=click.Path(path_type=Path))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    repeats: int,
    threads: int | None,
    only: tuple[str, ...],
    old: str,
    photos: Path | None,
    calibrated: int,
    tried: int,
    work: Path,
    out: Path,
) -> None:
    """Write export_cost.csv and export_cost.md; with --photos only the photos are measured."""
    threads = threads or available_cores()
    work.mkdir(parents=True, exist_ok=True)
    source = random_weights(NetSpec("D", numbered(1000)), work)
    log = work / "measured.jsonl"

    def record(kind: str, row: dict) -> None:
        print(row, flush=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps([kind, row]) + "\n")

    if photos:
        for code in ("", old) if old else ("",):
            own = measure_photos(source, photos, calibrated, repeats, tried, threads, code)
            for row in own:
                record("photos", row)
    else:
        images = built_in("train", 8).root
        codes = dict.fromkeys(("", old))
        cases = [(name, code) for name in only or [*CASES, PEER] for code in codes]
        for name, code in cases * repeats:
            if name == PEER and code:
                continue
            with tempfile.TemporaryDirectory(dir=work) as folder:
                tree = Path(code) if code else None
                row = measure_export(name, source, Path(folder), images, threads, tree)
                files = [f for f in Path(folder).iterdir() if f.suffix in (".onnx", ".data")]
                megabytes = sum(file.stat().st_size for file in files) / 1e6
                row |= {"written_twice_s": write_twice(files, work)}
                own = {"export": name, "code": "old" if code else "new", "mb": megabytes}
                record("export", own | row)
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    of_exports = [row for kind, row in rows if kind == "export"]
    of_photos = [row for kind, row in rows if kind == "photos"]
    write_csv(pd.DataFrame([*of_exports, *of_photos]), out / "export_cost.csv")
    text = f"# Exporting a full-width D\n\n`python benchmarks/export_cost.py`, {threads} threads. "
    if of_exports:
        text += exports_text(of_exports)
    text += f"{photos_text(of_photos)}\n{environment_block(threads)}"
    write_text(out / "export_cost.md", text)
    print(text)


if __name__ == "__main__":
    main()
