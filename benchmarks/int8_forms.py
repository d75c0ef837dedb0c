"""8-bit forms for ONNX Runtime on CPUs, with and without VNNI: python benchmarks/int8_forms.py --data FOLDER

Without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with vpmaddubsw, which adds two products in 16 bits
and saturates: 255 * 127 * 2 does not fit. Each form below is a full-width D with the released convolutions; fc6 and fc7 are
random and fc8 is fitted to the classes by ridge regression on fc7's output.

FOLDER holds weights/vgg16_conv_oxford.safetensors and imagenette10/{train,val}/CLASS/*.JPEG.

The part without VNNI runs on a changed copy of ONNX Runtime, see without_vnni.py.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

TODAY = "int8-cpu"
CLASSES = 10


def forms() -> dict:
    """The precisions that are compared, by name."""
    from export.precision import INT8, PRECISIONS, UINT8, Format

    signed = replace(PRECISIONS["int8-cpu"], activations=UINT8, weights=INT8)
    return {
        "uint8 x int8": signed,
        "uint8 x 7-bit int8": replace(signed, weights=Format(np.dtype(np.int8), 64)),
        "uint8 x uint8": replace(signed, weights=Format(np.dtype(np.uint8), 127, 128)),
        "7-bit uint8 x int8": replace(signed, activations=Format(np.dtype(np.uint8), 127)),
    }


@dataclass(frozen=True)
class Setting:
    """Sizes of a run."""

    data: Path
    width: float
    head_images: int
    calibration_images: int
    images: int
    twin_images: int
    rounds: int
    threads: int


def fitted_net(setting: Setting):
    """The net, and its fc7 features' fit: a VGG in evaluation mode."""
    import torch
    from safetensors.numpy import load_file

    from vgg_deploy.data import open_dataset
    from vgg_deploy.model import VGG, initialise
    from vgg_deploy.spec import NetSpec

    train = open_dataset(setting.data / "imagenette10", "train").subset(setting.head_images)
    net = VGG(NetSpec("D", train.classes, width=setting.width, train_side=(224, 224))).eval()
    initialise(net, "he", torch.Generator().manual_seed(0))
    if setting.width == 1:
        held = load_file(setting.data / "weights" / "vgg16_conv_oxford.safetensors")
        held["conv1_1.weight"] = np.ascontiguousarray(held["conv1_1.weight"][:, ::-1])  # BGR to RGB
        net.load_state_dict({name: torch.from_numpy(values) for name, values in held.items()}, strict=False)
    with torch.inference_mode():
        _scale_head(net, train)
        features = torch.cat([_before_fc8(net, train.decode(i)) for i in range(len(train))]).double()
        wanted = 10 * torch.nn.functional.one_hot(torch.from_numpy(train.labels), CLASSES).double() - 1
        centre = features.mean(0)
        gram = (features - centre).T @ (features - centre)
        gram.diagonal().add_(0.1 * gram.diagonal().mean() * len(train) ** 0.5)
        weight = torch.linalg.solve(gram, (features - centre).T @ (wanted - wanted.mean(0)))
        net.fc8.weight.copy_(weight.T.reshape(net.fc8.weight.shape))
        net.fc8.bias.copy_(wanted.mean(0) - centre @ weight)
    return net


def _before_fc8(net, picture):
    import torch

    values = picture[None].float() - torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    for name, layer in net.named_children():
        if name == "fc8":
            break
        values = layer(values)
    return values.flatten(1)


def _scale_head(net, train) -> None:
    """fc6 and fc7 so that their outputs have unit variance, as a trained head's are of moderate size."""
    for name in ("fc6", "fc7"):
        values = train.decode(0)[None].float()
        for child, layer in net.named_children():
            values = layer(values)
            if child == name:
                break
        getattr(net, name).weight.div_(values.std())


def write_forms(net, setting: Setting, folder: Path) -> dict[str, Path]:
    """fp32 and every form as a file, quantized by the same ranges."""
    from export.calibration import BATCH
    from export.graph import onnx_graph
    from export.onnx_file import write_onnx
    from export.precision import PRECISIONS
    from export.quantization import LAST, Quantization
    from export.ranges import clip, measure_ranges
    from export.release import Wanted
    from vgg_deploy.artifact import Artifact
    from vgg_deploy.data import open_dataset

    pictures = open_dataset(setting.data / "imagenette10", "train").subset(setting.calibration_images)
    assert BATCH
    ranges = measure_ranges(net, (pictures.decode(i).numpy()[None] for i in range(len(pictures))))
    wanted, files = Wanted(("int8-cpu",)), {"fp32": folder / "fp32.onnx"}
    write_onnx(files["fp32"], onnx_graph(net, Artifact(net.spec, wanted.form, "fp32", "net", "0" * 64), PRECISIONS["fp32"]))
    for name, precision in forms().items():
        thresholds = clip(ranges, wanted.method, precision)
        quantization = Quantization({k: t for k, t in thresholds.items() if k != LAST}, wanted.per_channel, thresholds[LAST])
        files[name] = folder / f"{name.replace(' ', '_')}.onnx"
        write_onnx(files[name], onnx_graph(net, Artifact(net.spec, wanted.form, "int8-cpu", "net", "0" * 64), precision, quantization))
    return files


def session(path: Path, threads: int, level: str = "ORT_ENABLE_ALL"):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(files: dict[str, Path], pixels: np.ndarray, labels: np.ndarray, setting: Setting) -> dict:
    """Scores and times of all files in this process."""

    def scores(run, count: int) -> np.ndarray:
        return np.concatenate([run.run(["score_map"], {"image": pixels[i : i + 1]})[0].mean((2, 3)) for i in range(count)])

    def rms(found: np.ndarray, wanted: np.ndarray) -> float:
        return 100 * float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))

    running = {name: session(path, setting.threads) for name, path in files.items()}
    found = {name: scores(run, len(pixels)) for name, run in running.items()}
    rows = {name: {"top1_error_pct": 100 * float((s.argmax(1) != labels).mean())} for name, s in found.items()}
    for name in files:
        if name == "fp32":
            continue
        twin = scores(session(files[name], setting.threads, "ORT_DISABLE_ALL"), setting.twin_images)
        rows[name] |= {
            "rms_pct": rms(found[name], found["fp32"]),
            "agree_pct": 100 * float((found[name].argmax(1) == found["fp32"].argmax(1)).mean()),
            "twin_rms_pct": rms(found[name][: setting.twin_images], twin),
        }
    ms = {name: [] for name in files}
    for i in range(setting.rounds + 2):
        for name, run in running.items():
            begun = time.perf_counter()
            run.run(["posterior"], {"image": pixels[i % len(pixels)][None]})
            ms[name].append(1000 * (time.perf_counter() - begun))
    for name in files:
        rows[name]["ms"] = float(np.median(ms[name][2:]))
        rows[name]["times_fp32"] = float(np.median(np.array(ms["fp32"][2:]) / ms[name][2:]))
        rows[name]["low"], rows[name]["high"] = (float(v) for v in np.quantile(np.array(ms["fp32"][2:]) / ms[name][2:], [0.25, 0.75]))
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="See above.")
@click.option("--width", default=1.0, help="Of the net's channels; below 1 its weights are random.")
@click.option("--head-images", default=600, help="Images that fc8 is fitted to.")
@click.option("--calibration-images", default=128)
@click.option("--images", default=200, help="Validation images that are scored.")
@click.option("--twin-images", default=16, help="Of these, those that are also scored without fusing.")
@click.option("--rounds", default=30, help="Each calls every form once, batch 1, 224 x 224.")
@click.option("--threads", default=2)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder of the files; what is there is not made again.  [default: a scratch folder]")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
@click.option("--measure-only", hidden=True, type=click.Path(path_type=Path))
def main(data, width, head_images, calibration_images, images, twin_images, rounds, threads, keep, out, measure_only):
    setting = Setting(data, width, head_images, calibration_images, images, twin_images, rounds, threads)
    if measure_only:
        held = np.load(measure_only / "pixels.npz")
        files = {name: Path(path) for name, path in json.loads((measure_only / "files.json").read_text()).items()}
        print(json.dumps(measure(files, held["pixels"], held["labels"], setting)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "files.json").is_file():
            _prepare(setting, folder)
        rows = []
        with tempfile.TemporaryDirectory() as package:
            from without_vnni import environment

            for cpu, env in (("with VNNI", None), ("without", environment(Path(package)))):
                found = _measured_alone(folder, setting, env)
                rows += [{"cpu": cpu, "form": name, **row} for name, row in found.items()]
                print(pd.DataFrame(rows).to_string(), flush=True)
    _report(rows, setting, out)


def _prepare(setting: Setting, folder: Path) -> None:
    import torch

    from vgg_deploy.data import open_dataset

    torch.set_num_threads(setting.threads)
    print("fitting the head", flush=True)
    net = fitted_net(setting)
    print("calibrating and writing the forms", flush=True)
    files = write_forms(net, setting, folder)
    val = open_dataset(setting.data / "imagenette10", "val").subset(setting.images)
    np.savez(folder / "pixels.npz", pixels=np.stack([val.decode(i).numpy() for i in range(len(val))]), labels=val.labels)
    (folder / "files.json").write_text(json.dumps({name: str(path) for name, path in files.items()}))


def _measured_alone(folder: Path, setting: Setting, env: dict[str, str] | None) -> dict:
    arguments = {"data": setting.data, "twin-images": setting.twin_images, "rounds": setting.rounds, "threads": setting.threads,
                 "measure-only": folder}  # fmt: skip
    command = [sys.executable, __file__, *(part for name, value in arguments.items() for part in (f"--{name}", str(value)))]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _report(rows: list[dict], setting: Setting, out: Path) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    main()
