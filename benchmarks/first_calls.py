"""Measures the time of a process up to its first scores of D.

    python benchmarks/first_calls.py

Every runtime in a process of its own: importing, loading the model, the first call at Q 256, and
the second. torch.compile starts from an empty cache. The system's file cache is warm.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from result_rows import ResultRows

WAYS = {  # name: file suffix, runtime, type, whether CUDA graphs
    "PyTorch": (".pt", "torch", "bf16", False),
    "PyTorch, CUDA graphs": (".pt", "torch", "bf16", True),
    "ONNX Runtime": (".fp16.onnx", "onnxruntime", "fp16", False),
    "PyTorch, compiled": (".pt", "torch-compile", "bf16", False),
}
TABLE = {
    "way": "way",
    "type": "precision",
    "batch": "batch",
    "import s": "import_s:.2f",
    "load s": "load_s:.2f",
    "first call s": "first_s:.2f",
    "second call s": "second_s:.4f",
    "process s": "process_s:.2f",
    "failure": "failure",
}


def timed_here(folder: Path, name: str, side: int, batch: int, device: str) -> dict[str, object]:
    """Seconds of each stage of this process."""
    suffix, runtime, precision, graphs = WAYS[name]
    start = time.perf_counter()
    import numpy as np

    from vgg_deploy.machine import available_cores
    from vgg_deploy.runtimes import open_runtime
    from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime

    imported = time.perf_counter()
    model = open_runtime(folder / f"D{suffix}", device, available_cores(), runtime, precision)
    if graphs:
        model = GraphedRuntime(model)
    marks = [start, imported, time.perf_counter()]
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    for _ in range(2):
        model(images)
        marks.append(time.perf_counter())
    stages = ("import_s", "load_s", "first_s", "second_s")
    spent = [end - begin for begin, end in zip(marks, marks[1:], strict=False)]
    return dict(zip(stages, spent, strict=True))


def timed_apart(
    folder: Path, name: str, side: int, batch: int, device: str, limit_s: float
) -> dict[str, object]:
    """The row of one way, from a process of its own."""
    row = {"way": name, "precision": WAYS[name][2], "q_px": side, "batch": batch, "device": device}
    sizes = ["--side", str(side), "--batch", str(batch), "--device", device]
    command = [sys.executable, __file__, "--kept", str(folder), "--child", name, *sizes]
    with tempfile.TemporaryDirectory() as caches:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": caches, "TRITON_CACHE_DIR": caches}
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            return row | {"failure": f"not done within {limit_s:.0f} s"}
        row["process_s"] = time.perf_counter() - start
    if done.returncode:
        return row | {"failure": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return row | json.loads(done.stdout.splitlines()[-1])


@click.command(context_settings={"show_default": True})
@click.option(
    "--kept",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder with D.pt and D.fp16.onnx, as gpu_speed.py --prepare writes them.",
)
@click.option("--side", default=256, help="Q, pixels.")
@click.option("--batch", default=8, help="Images per call.")
@click.option("--device", default="cuda", type=click.Choice(("cuda", "cpu")))
@click.option("--limit", default=60.0, help="Most seconds of one process.")
@click.option("--ways", help="Names, separated by semicolons.  [default: all]")
@click.option("--child", hidden=True, type=click.Choice(tuple(WAYS)))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    kept: Path,
    side: int,
    batch: int,
    device: str,
    limit: float,
    ways: str | None,
    child: str | None,
    out: Path,
) -> None:
    """Write first_calls_DEVICE.csv and .md."""
    if child:
        print(json.dumps(timed_here(kept, child, side, batch, device)))
        return
    title = f"First calls of D, Q {side}, batch {batch}"
    results = ResultRows(out / f"first_calls_{device}.csv", title, TABLE)
    for name in ways.split(";") if ways else WAYS:
        if device == "cpu" and WAYS[name][3]:
            continue  # CUDA graphs
        results.add(timed_apart(kept, name, side, batch, device, limit))
        print("measured:", json.dumps(results.rows[-1]), flush=True)
    print(results.markdown())


if __name__ == "__main__":
    main()
