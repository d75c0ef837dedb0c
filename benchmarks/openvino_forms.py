"""Compares every precision of exported files in OpenVINO with ONNX Runtime and with float32.

    python benchmarks/openvino_forms.py exported/ more/ --data photos --emulate Haswell

Each FOLDER has files of one net as vgg-export wrote them: NAME.fp32.onnx, NAME.int8.onnx, ...
Errors are root mean squares over all values of an output on the same photos, in per cent of those
of the float32 file in ONNX Runtime. Nothing is timed. With --emulate, OpenVINO also runs the files
on a CPU that QEMU emulates, on smaller photos; there the products that saturate can be seen.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from result_rows import ResultRows
from result_tables import environment_block

from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.runtimes import Runtime, open_runtime
from vgg_deploy.runtimes.contract import Outputs
from vgg_deploy.runtimes.openvino_package import load_openvino

COLUMNS = {
    "net": "net",
    "file": "precision",
    "CPU": "cpu",
    "runtime": "runtime",
    "output": "output",
    "RMS error %": "error_pct:.3g",
    "of ONNX Runtime": "onnxruntime_pct:.3g",
    "between the two": "between_pct:.3g",
}
ELSEWHERE = """
import json, sys
import numpy as np
import openvino as ov
images, found, core = np.load(sys.argv[1]), {}, ov.Core()
for number, (path, names) in enumerate(json.loads(sys.argv[3])):
    net = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = net(images)
    found |= {f"{number} {name}": results[name] for name in names}
np.savez(sys.argv[2], **found)
"""


def rms_pct(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square difference, per cent of the root mean square of `expected`."""
    difference = np.mean((found.astype(float) - expected) ** 2)
    return 100 * float(np.sqrt(difference / np.mean(expected.astype(float) ** 2)))


def shown(artifact: Artifact) -> tuple[str, ...]:
    """Outputs whose errors are shown: layers, or the scores."""
    return artifact.layers or ("score_map",)


def outputs_of(path: Path, runtime: str, images: np.ndarray, threads: int) -> Outputs | str:
    """Outputs of a file, or why it does not run."""
    try:
        opened: Runtime = open_runtime(path, threads=threads, runtime=runtime)
    except InputError as error:
        return error.what
    names = shown(opened.artifact)
    parts = [opened.run(images[i : i + 1], names) for i in range(len(images))]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def emulated(cpu: str, paths: list[Path], images: np.ndarray) -> list[Outputs]:
    """Outputs of files on an emulated CPU, where only OpenVINO and NumPy run."""
    asked = [(str(path), shown(artifact_of(path))) for path in paths]
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "images.npy", images)
        stored = (f"{scratch}/images.npy", f"{scratch}/found.npz")
        words = [sys.executable, "-c", ELSEWHERE, *stored, json.dumps(asked)]
        done = subprocess.run(["qemu-x86_64", "-cpu", cpu, *words], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        with np.load(stored[1]) as found:
            return [
                {name: found[f"{number} {name}"] for name in names}
                for number, (_, names) in enumerate(asked)
            ]


def artifact_of(path: Path) -> Artifact:
    """The description of a file in its manifest."""
    return Artifact.from_json(manifest_path(path).read_text(), str(path))


def compare(rows: ResultRows, folder: Path, images: np.ndarray, threads: int) -> None:
    """Add the rows of this CPU."""
    paths, exact = files_of(folder), {}
    for path in paths:
        own = outputs_of(path, "onnxruntime", images, threads)
        exact = exact or own  # the float32 file is the first
        for runtime in ("openvino", "openvino-bf16"):
            found = outputs_of(path, runtime, images, threads)
            row = {"net": folder.name, "precision": precision_of(path), "cpu": "this"}
            row["runtime"] = runtime
            if isinstance(found, str):
                continue
            for name, values in found.items():
                errors = {"error_pct": rms_pct(values, exact[name])}
                if not isinstance(own, str):
                    errors["onnxruntime_pct"] = rms_pct(own[name], exact[name])
                    errors["between_pct"] = rms_pct(values, own[name])
                rows.add({**row, "output": name, **errors})


def compare_emulated(rows: ResultRows, folder: Path, images: np.ndarray, cpu: str) -> None:
    """Add the rows of an emulated CPU."""
    paths = files_of(folder)
    exact = outputs_of(paths[0], "onnxruntime", images, 1)
    for path, found in zip(paths, emulated(cpu, paths, images), strict=True):
        own = outputs_of(path, "onnxruntime", images, 1)
        for name, values in found.items():
            row = {"net": folder.name, "precision": precision_of(path), "cpu": cpu}
            errors = {"error_pct": rms_pct(values, exact[name])}
            if not isinstance(own, str):  # of this CPU
                errors["onnxruntime_pct"] = rms_pct(own[name], exact[name])
                errors["between_pct"] = rms_pct(values, own[name])
            rows.add({**row, "runtime": "openvino", "output": name, **errors})


def files_of(folder: Path) -> list[Path]:
    """The ONNX files of a folder, float32 first."""
    files = sorted(folder.glob("*.onnx"), key=lambda path: ("fp32" not in path.name, path.name))
    if not files or precision_of(files[0]) != "fp32":
        raise click.UsageError(f"{folder}: has no float32 file of vgg-export; export one to it")
    return files


def precision_of(path: Path) -> str:
    return artifact_of(path).precision


@click.command(context_settings={"show_default": True})
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--images", default=8, help="Validation photos.")
@click.option("--emulate", help="A CPU of QEMU without VNNI, such as Haswell.")
@click.option("--emulated", default=2, help="How many of FOLDERS are also run there.")
@click.option("--emulated-side", default=64, help="Side of the photos there, pixels.")
@click.option("--threads", default=1)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    folders: tuple[Path, ...],
    data: Path,
    images: int,
    emulate: str | None,
    emulated: int,
    emulated_side: int,
    threads: int,
    out: Path,
) -> None:
    """Write openvino_forms.csv and openvino_forms.md."""
    photos = open_dataset(data, "val").subset(images)
    batch = np.stack([photos.decode(i).numpy() for i in range(len(photos))])
    rows = ResultRows(out / "openvino_forms.csv", "Precisions in OpenVINO", COLUMNS)
    for folder in folders:
        compare(rows, folder, batch, threads)
    if emulate and shutil.which("qemu-x86_64"):
        small = np.ascontiguousarray(batch[:4, :, :emulated_side, :emulated_side])
        for folder in folders[:emulated]:
            compare_emulated(rows, folder, small, emulate)
    capabilities = load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    rows.note(
        f"`python benchmarks/openvino_forms.py {' '.join(one.name for one in folders)}`: {images} "
        "validation photos. Errors are against the float32 file in ONNX Runtime on this CPU; so "
        "is the column of ONNX Runtime, also in rows of an emulated CPU, whose photos are cut to "
        f"{emulated_side} x {emulated_side}. bf16 files do not run in ONNX Runtime on CPUs. "
        f"OpenVINO says of this CPU: {', '.join(capabilities)}."
    )
    rows.note(environment_block(threads))
    print(rows.markdown())


if __name__ == "__main__":
    main()
