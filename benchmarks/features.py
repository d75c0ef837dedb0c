"""Compares files of features with the classifier's: size, memory, time, and error.

    python benchmarks/features.py --calibration photos

D at full width, in every precision that runs on CPUs. Times are of one image of Q x Q, called in
turn with the classifier's float32 file; memory is the peak of a process that opens a file and runs
it once. Errors are those of the export's own check: float precisions on the built-in images,
int8-cpu on held-out images of --calibration. Weights are random unless --weights names a file.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from alone import run_alone
from models import random_weights
from result_rows import ResultRows
from result_tables import environment_block
from timing import time_in_turn

from export.outputs import feature_rows
from export.release import ExportOptions, export_onnx
from export.write_ncnn import export_ncnn
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import open_runtime

SETS = {  # name -> layers; empty for the classifier
    "classifier": (),
    "relu1_2 to relu5_3": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "relu3_3": ("relu3_3",),
    "pool5": ("pool5",),
}
COLUMNS = {
    "file gives": "gives",
    "form": "form",
    "MB": "mb:.1f",
    "peak MiB": "peak_mib:,.0f",
    "time / classifier's fp32": "ratio:.2f",
    "low": "low:.2f",
    "high": "high:.2f",
    "largest RMS error %": "error_pct:.2g",
    "of": "worst",
}


def ratio_of(runtime, reference, side: int, rounds: int) -> tuple[float, float, float]:
    """Median time over the reference's, and a 95 % bootstrap interval."""
    images = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), np.uint8)
    calls = [lambda n: runtime.run(images, runtime.outputs), lambda n: reference(images)]
    seconds = time_in_turn(calls, rounds, warm_up=2)[..., 0]
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, rounds, (2000, rounds))
    medians = np.median(seconds[drawn], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], (0.025, 0.975))
    middle = np.median(seconds, axis=0)
    return float(middle[0] / middle[1]), float(low), float(high)


@click.command(context_settings={"show_default": True})
@click.option("--weights", type=click.Path(exists=True, path_type=Path))
@click.option("--calibration", type=click.Path(exists=True, path_type=Path))
@click.option("--calibration-images", default=32)
@click.option("--precisions", default="fp32,fp16", help="int8-cpu needs --calibration.")
@click.option("--sets", default=",".join(SETS), help="Which files, by what they give.")
@click.option("--side", default=224, help="Q, pixels.")
@click.option("--rounds", default=9)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    weights: Path | None,
    calibration: Path | None,
    calibration_images: int,
    precisions: str,
    sets: str,
    side: int,
    rounds: int,
    out: Path,
) -> None:
    """Write features.csv and features.md."""
    threads = available_cores()
    rows = ResultRows(out / "features.csv", "Files that give features of D", COLUMNS)
    with tempfile.TemporaryDirectory() as scratch:
        source = random_weights(NetSpec("D", numbered(1000)), Path(scratch))
        reference = None
        for gives in sets.split(","):
            layers = SETS[gives]
            options = ExportOptions(
                tuple(precisions.split(",")),
                calibration=calibration,
                calibration_images=calibration_images,
                features=layers,
            )
            net = weights if weights and layers else source
            files = export_onnx(net, Path(scratch) / gives, options, None, threads, print)
            files = [*files, export_ncnn(files[0].path, threads, print)]
            for file in files:
                form = "ncnn" if file.path.suffix == ".param" else file.artifact.precision
                alone = run_alone("run_outputs", file.path, side, threads)
                runtime = open_runtime(file.path, threads=threads)
                reference = reference or runtime  # the first is the classifier's float32 file
                ratio, low, high = ratio_of(runtime, reference, side, rounds)
                row = {"gives": gives, "form": form, "mb": file.size / 1e6, **alone}
                row |= {"ratio": ratio, "low": low, "high": high}
                errors = {r["layer"]: 100 * r["error"] for r in feature_rows(file)}
                if errors:
                    worst = max(errors, key=lambda layer: errors[layer])
                    row |= {"error_pct": errors[worst], "worst": worst}
                rows.add(row)
    of = "random weights" if weights is None else f"weights of {weights.name} for features"
    rows.note(
        f"`python benchmarks/features.py`, {of}, one image of {side} x {side}, {threads} threads, "
        f"{rounds} calls in turn, 95 % bootstrap interval of the ratio of medians. ncnn's errors "
        "are against ONNX Runtime."
    )
    rows.note(environment_block(threads))
    print(rows.markdown())


if __name__ == "__main__":
    main()
