"""Compares 8-bit forms for ONNX Runtime on CPUs, with and without VNNI.

    python benchmarks/int8_forms.py --data FOLDER

Without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with vpmaddubsw, which adds
two products in 16 bits and saturates: 255 * 127 * 2 does not fit. Compared are 8-bit weights, the
same with ONNX Runtime's setting against this (session.x64quantprecision), weights stored as uint8,
and 7-bit weights.

FOLDER contains weights/vgg16_conv_oxford.safetensors and imagenette10/{train,val}/CLASS/*.JPEG. The
net is a full-width D with the released convolutions; fc6 and fc7 are random, and fc8 is fitted to
the classes by ridge regression on fc7's output. The part without VNNI runs on a changed copy of
ONNX Runtime, see without_vnni.py.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pandas as pd
import torch
from onnx import numpy_helper
from result_tables import json_block, markdown_table, write_csv
from safetensors.numpy import load_file
from timing import time_in_turn
from torch import Tensor
from without_vnni import environment

from bench.results.environment import describe_environment
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization
from export.settings.export_options import ExportOptions
from export.settings.precision import INT7, INT8, PRECISIONS
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.files import write_text
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes.integer_kernels import kernel_errors

EXACT = {"session.x64quantprecision": "1"}
HEADS = [
    "form",
    "top-1 error %",
    "RMS % against fp32",
    "best class as fp32 %",
    "levels off",
    "ms",
    "times as fast as fp32",
    "of rounds",
]


@dataclass(frozen=True)
class Form:
    """One way to run the net."""

    file: str  # without suffix
    settings: dict[str, str]  # of the session


FORMS = {
    "fp32": Form("fp32", {}),
    "8-bit weights, int8": Form("int8", {}),
    "the same, x64quantprecision": Form("int8", EXACT),
    "8-bit weights, uint8": Form("uint8", {}),
    "7-bit weights, int8": Form("int7", {}),
}


@dataclass(frozen=True)
class Setting:
    """Sizes of a run."""

    data: Path
    width: float
    head_images: int
    calibration_images: int
    images: int
    rounds: int
    threads: int


def fitted_net(setting: Setting) -> VGG:
    """A VGG in evaluation mode, its fc8 fitted to the classes."""
    train = open_dataset(setting.data / "imagenette10", "train").subset(setting.head_images)
    spec = NetSpec(
        "D",
        train.classes,
        width=setting.width,
        train_side=(256, 256),
        recipe="fc8 by ridge regression",
    )
    net = VGG(spec).eval()
    initialise(net, "he", torch.Generator().manual_seed(0))
    if setting.width == 1:
        weights = load_file(setting.data / "weights" / "vgg16_conv_oxford.safetensors")
        bgr = weights["conv1_1.weight"]
        weights["conv1_1.weight"] = np.ascontiguousarray(bgr[:, ::-1])  # to RGB
        tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
        net.load_state_dict(tensors, strict=False)
    with torch.inference_mode():
        _scale_head(net, train)
        features = torch.cat([_before_fc8(net, train.decode(i)) for i in range(len(train))])
        _fit_fc8(net, features.double(), torch.from_numpy(train.labels))
    return net


def _fit_fc8(net: VGG, features: Tensor, labels: Tensor) -> None:
    """Fit fc8 by ridge regression.

    Args:
        net: Its fc8 is changed.
        features: Output of fc7, (N, C) float64.
        labels: Class of each image, (N,).
    """
    targets = 10 * torch.nn.functional.one_hot(labels, len(net.spec.classes)).double() - 1
    centre, mean = features.mean(0), targets.mean(0)
    gram = (features - centre).T @ (features - centre)
    gram.diagonal().add_(0.1 * gram.diagonal().mean() * len(labels) ** 0.5)
    weight = torch.linalg.solve(gram, (features - centre).T @ (targets - mean))
    net.fc8.weight.copy_(weight.T.reshape(net.fc8.weight.shape))
    net.fc8.bias.copy_(mean - centre @ weight)


def _before_fc8(net: VGG, image: Tensor) -> Tensor:
    values = image[None].float() - torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    for name, layer in net.named_children():
        if name == "fc8":
            break
        values = layer(values)
    return values.flatten(1)


def _scale_head(net: VGG, train: Dataset) -> None:
    """Scale fc6 and fc7 to outputs of unit variance, a usual size for a trained net."""
    for name in ("fc6", "fc7"):
        values = train.decode(0)[None].float()
        for child, layer in net.named_children():
            values = layer(values)
            if child == name:
                break
        getattr(net, name).weight.div_(values.std())


def write_forms(net: VGG, setting: Setting, folder: Path) -> None:
    """Every file of FORMS, quantized by the same ranges."""
    images = open_dataset(setting.data / "imagenette10", "train").subset(setting.calibration_images)
    ranges = measure_ranges(net, (images.decode(i).numpy()[None] for i in range(len(images))))
    options = ExportOptions()
    floats = Artifact(net.spec, options.form, "fp32", "net.pt", "0" * 64)
    write_onnx(folder / "fp32.onnx", onnx_graph(net, floats, PRECISIONS["fp32"]))
    for name, weights in (("int8", INT8), ("int7", INT7)):
        precision = replace(PRECISIONS["int8-cpu"], weights=weights)
        thresholds = clip(ranges, options.method, precision)
        inner = {conv: threshold for conv, threshold in thresholds.items() if conv != LAST}
        quantization = Quantization(inner, options.per_channel, thresholds[LAST])
        graph = onnx_graph(net, replace(floats, precision="int8-cpu"), precision, quantization)
        write_onnx(folder / f"{name}.onnx", graph)
    model = onnx.load(folder / "int8.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight.quantized"):
            moved = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.uint8), tensor.name))
        if tensor.name.endswith(".weight.zero_point"):
            middle = np.full(tuple(tensor.dims), 128, np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(middle, tensor.name))
    onnx.save(model, folder / "uint8.onnx")


def session(folder: Path, form: Form, threads: int) -> Any:
    from onnxruntime import InferenceSession, SessionOptions  # after vgg_deploy: no telemetry

    options = SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    for name, value in form.settings.items():
        options.add_session_config_entry(name, value)
    return InferenceSession(
        str(folder / f"{form.file}.onnx"), options, providers=["CPUExecutionProvider"]
    )


def measure(folder: Path, setting: Setting) -> dict[str, dict]:
    """Scores and times of all forms in this process: one row for each."""
    stored = np.load(folder / "images.npz")
    images, labels = stored["images"], stored["labels"]
    running = {name: session(folder, form, setting.threads) for name, form in FORMS.items()}
    scores = {
        name: np.concatenate([_scores(run, image) for image in images])
        for name, run in running.items()
    }
    exact = scores["fp32"]
    rows = {
        name: {"top1_error_pct": 100 * float((found.argmax(1) != labels).mean())}
        for name, found in scores.items()
    }
    for name, form in FORMS.items():
        if name == "fp32":
            continue
        error = np.sqrt(np.mean((scores[name] - exact) ** 2) / np.mean(exact**2))
        rows[name]["rms_pct"] = 100 * float(error)
        rows[name]["agree_pct"] = 100 * float((scores[name].argmax(1) == exact.argmax(1)).mean())
        if not form.settings and form.file != "uint8":
            levels = kernel_errors(folder / f"{form.file}.onnx", setting.threads)
            rows[name]["levels_off"] = max(levels.values())
    calls = [partial(_call, run, images) for run in running.values()]
    ms = 1000 * time_in_turn(calls, setting.rounds, warm_up=2)[:, :, 0]
    fp32_ms = ms[:, list(FORMS).index("fp32")]
    for name, own_ms in zip(FORMS, ms.T, strict=True):
        ratios = fp32_ms / own_ms
        low, high = np.quantile(ratios, [0.25, 0.75])
        rows[name] |= {
            "ms": float(np.median(own_ms)),
            "times_fp32": float(np.median(ratios)),
            "low": float(low),
            "high": float(high),
        }
    return rows


def _call(session: Any, images: np.ndarray, round_number: int) -> None:
    """Score one of the images, another one in each round."""
    image = images[round_number % len(images)]
    session.run(["posterior"], {"image": image[None]})


def _scores(session: Any, image: np.ndarray) -> np.ndarray:
    """(1, classes) mean scores of one image (3, H, W)."""
    return session.run(["score_map"], {"image": image[None]})[0].mean((2, 3))


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the data.",
)
@click.option("--width", default=1.0, help="Of the net's channels; below 1 its weights are random.")
@click.option("--head-images", default=600, help="Training images that fc8 is fitted to.")
@click.option("--calibration-images", default=128, help="Training images.")
@click.option("--images", default=200, help="Validation images that are scored.")
@click.option("--rounds", default=30, help="Each calls every form once, batch 1, 224 x 224.")
@click.option("--threads", default=2)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder of the files; existing files are used.  [default: a scratch folder]",
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
@click.option("--measure-only", is_flag=True, hidden=True)
def main(
    data: Path,
    width: float,
    head_images: int,
    calibration_images: int,
    images: int,
    rounds: int,
    threads: int,
    keep: Path | None,
    out: Path,
    measure_only: bool,
) -> None:
    """Write int8_forms.csv and int8_forms.md."""
    setting = Setting(data, width, head_images, calibration_images, images, rounds, threads)
    if measure_only:
        print(json.dumps(measure(keep, setting)))
        return
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as package:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "images.npz").is_file():
            prepare(setting, folder)
        rows = []
        changed = environment(Path(package))
        for cpu, env in (("this CPU", None), ("without AVX-512 and VNNI", changed)):
            measured = measure_alone(folder, setting, env)
            of_cpu = [{"cpu": cpu, "form": name, **row} for name, row in measured.items()]
            print(pd.DataFrame(of_cpu).to_string(), flush=True)
            rows += of_cpu
    report(pd.DataFrame(rows), setting, out)


def prepare(setting: Setting, folder: Path) -> None:
    """Write the net, its forms and the images to files."""
    torch.set_num_threads(setting.threads)
    print("fitting fc8", flush=True)
    net = fitted_net(setting)
    save_checkpoint(folder / "net.pt", Checkpoint(net.spec, net.state_dict()))
    print("calibrating and writing the forms", flush=True)
    write_forms(net, setting, folder)
    val = open_dataset(setting.data / "imagenette10", "val").subset(setting.images)
    np.savez(
        folder / "images.npz",
        images=np.stack([val.decode(i).numpy() for i in range(len(val))]),
        labels=val.labels,
    )


def measure_alone(folder: Path, setting: Setting, env: dict[str, str] | None) -> dict[str, dict]:
    """`measure` in a process of its own."""
    options = {
        "data": setting.data,
        "keep": folder,
        "rounds": setting.rounds,
        "threads": setting.threads,
    }
    command = [sys.executable, __file__, "--measure-only"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(table: pd.DataFrame, setting: Setting, out: Path) -> None:
    """Write int8_forms.csv and int8_forms.md."""
    write_csv(table, out / "int8_forms.csv")
    parts = []
    for cpu, rows in table.groupby("cpu", sort=False):
        cells = [_cells(row) for row in rows.to_dict("records")]
        parts.append(f"## {cpu[0].upper()}{cpu[1:]}\n\n{markdown_table(HEADS, cells)}")
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(setting).items()
    }
    described = describe_environment(setting.threads)
    text = (
        "# 8-bit forms in ONNX Runtime, with and without VNNI\n\n"
        f"`python benchmarks/int8_forms.py --data FOLDER`: D at width {setting.width:g}, "
        f"{setting.images} validation photos, calibrated on {setting.calibration_images}, fc8 "
        f"fitted on {setting.head_images}; 224 x 224, batch 1, {setting.threads} threads, "
        f"{setting.rounds} rounds of all forms in turn (median, quartiles of the ratio). Levels "
        "off: the largest error of any kind of convolution on random integers, 0.5 is rounding.\n\n"
        + "\n".join(parts)
        + "\n7-bit activations are not an option: QuantizeLinear ends at 255, so a value beyond "
        "the calibrated range would use the eighth bit.\n\n"
        f"{json_block({'settings': settings, 'environment': described})}"
    )
    write_text(out / "int8_forms.md", text)
    print(text)


def _cells(row: dict) -> list[str]:
    """Cells of one row, in the order of HEADS."""
    return [
        row["form"],
        f"{row['top1_error_pct']:.1f}",
        _number(row["rms_pct"], 2),
        _number(row["agree_pct"], 1),
        _number(row["levels_off"], 1),
        f"{row['ms']:.1f}",
        f"{row['times_fp32']:.2f}",
        f"{row['low']:.2f}-{row['high']:.2f}",
    ]


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
