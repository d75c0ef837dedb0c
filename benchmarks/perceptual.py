"""Compares LPIPS files with the package lpips: distances, sizes, memory and speed.

    python benchmarks/perceptual.py --weights VGG16 --data FOLDER

VGG16 are weights of net D, convolutions alone will do. The package lpips gets the same weights, so
nothing is downloaded. FOLDER contains photos; quantized files are calibrated on them. Pairs are a
photo beside a distortion of it, and a photo beside the next one. Memory is measured in processes of
their own, and speed in turn (A B A B), as ratios of the rounds. On a machine with other users leave
speed out with --rounds 0.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from peers.memory import peak_mib
from PIL import Image
from result_tables import environment_block, markdown_table, write_csv
from timing import time_in_turn

from bench.statistics.median import median_interval
from export.distance.heads import read_heads
from export.distance.reference import Reference
from export.distance_files import export_distances
from export.settings.distance_choice import LPIPS_LAYERS, DistanceChoice
from export.settings.export_options import ExportOptions
from vgg_deploy.data.unlabelled import open_unlabelled
from vgg_deploy.exported.distance_metadata import Term
from vgg_deploy.files import write_text
from vgg_deploy.images.distortions import DISTORTIONS
from vgg_deploy.machine import available_cores
from vgg_deploy.net.open_trunk import build_trunk, open_trunk
from vgg_deploy.runtimes.distances import OnnxDistance

CHOICE = DistanceChoice("lpips")
PRECISIONS = ("fp32", "fp16", "bf16", "int8-cpu", "int8")
SIZES = ((64, 64), (97, 131), (160, 200), (224, 224), (256, 341))  # height, width
TIMED = ((8, 64, 64), (1, 224, 224))  # batch, height, width
NOT_ON_CPU = ("bf16",)  # ONNX Runtime has no kernels


@dataclass(frozen=True)
class Parity:
    """A file beside the package lpips on photos; field names are the columns of perceptual.csv."""

    precision: str
    height_px: int
    width_px: int
    pairs: int
    mean_distance: float
    largest_difference: float


def package(weights: Path) -> Reference:
    """The package lpips with the given weights of net D."""
    spec, tensors = open_trunk(weights)
    terms = [Term(layer, 1.0) for layer in LPIPS_LAYERS]
    return Reference(build_trunk(spec, tensors, LPIPS_LAYERS[-1]), "lpips", terms, read_heads())


def photo_pairs(data: Path, count: int, height: int, width: int) -> Iterator[list[np.ndarray]]:
    """Pairs of (1, 3, H, W) uint8: each photo beside a distortion, and beside the next photo."""
    photos = open_unlabelled(data).subset(count + 1)
    images = [
        np.asarray(photos.image(i).resize((width, height), Image.Resampling.BICUBIC))
        for i in range(len(photos))
    ]
    for number in range(count):
        distorted = DISTORTIONS[(4 * number + 1) % len(DISTORTIONS)](images[number], number)
        for other in (distorted, images[number + 1]):
            yield [
                np.ascontiguousarray(image.transpose(2, 0, 1)[None])
                for image in (images[number], other)
            ]


def memory_of(way: str, weights: Path, threads: int) -> float:
    """Peak memory in MiB of this process after one pair of 224 x 224."""
    torch.set_num_threads(threads)
    run = package(weights) if way == "package lpips" else OnnxDistance(Path(way), threads=threads)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 3, 224, 224), np.uint8)
    run(*images)
    return peak_mib()


def in_own_process(*arguments: object) -> float:
    """`memory_of` in a process that starts empty."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(memory_of, arguments)


def speed_rows(files: dict[str, Path], weights: Path, threads: int, rounds: int) -> list[list[str]]:
    """The package's time over that of each file, in turn."""
    runs = {name: OnnxDistance(path, threads=threads) for name, path in files.items()}
    model = package(weights).package
    rows = []
    for batch, height, width in TIMED:
        images = np.random.default_rng(0).integers(0, 256, (2, batch, 3, height, width), np.uint8)
        inputs = [torch.from_numpy(one).float() / 127.5 - 1 for one in images]
        calls = [partial(called, model, inputs)]
        calls += [partial(called, run, images) for run in runs.values()]
        with torch.inference_mode():
            seconds = time_in_turn(calls, rounds, warm_up=1)[:, :, 0]
        for i, name in enumerate(runs, 1):
            ratios = seconds[:, 0] / seconds[:, i]
            low, high = median_interval(ratios)
            size, ratio = f"{batch} x {height} x {width}", f"{np.median(ratios):.2f}"
            rows.append([name, size, ratio, f"{low:.2f} to {high:.2f}"])
    return rows


def called(run: Callable[..., object], images: Sequence[object], _: int) -> object:
    """One call; the number of the round is not needed."""
    return run(*images)


@click.command(context_settings={"show_default": True})
@click.option("--weights", required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of photos.")
@click.option("--work", default="exported", type=click.Path(path_type=Path), help="Of the files.")
@click.option("--photos", default=6, type=click.IntRange(1), help="Each makes two pairs.")
@click.option("--calibration-images", default=128, type=click.IntRange(2))
@click.option("--rounds", default=20, type=click.IntRange(0), help="Of the speed; 0: not measured.")
@click.option("--threads", default=available_cores(), type=click.IntRange(1))
@click.option("--out", default="results", type=click.Path(path_type=Path))
def main(
    weights: Path,
    data: Path,
    work: Path,
    photos: int,
    calibration_images: int,
    rounds: int,
    threads: int,
    out: Path,
) -> None:
    """Write perceptual.csv and perceptual.md."""
    torch.set_num_threads(threads)
    files = {name: work / f"D.lpips.{name}.onnx" for name in PRECISIONS}
    missing = tuple(name for name, path in files.items() if not path.is_file())
    if missing:
        options = ExportOptions(
            missing, calibration=data, calibration_images=calibration_images, distance=CHOICE
        )
        export_distances(weights, work, options, CHOICE, threads, click.echo)
    on_cpu = {name: path for name, path in files.items() if name not in NOT_ON_CPU}
    reference = package(weights)
    rows = []
    for height, width in SIZES:
        pairs = list(photo_pairs(data, photos, height, width))
        expected = np.concatenate([reference(*pair) for pair in pairs])
        for name, path in on_cpu.items():
            run = OnnxDistance(path, threads=threads)
            found = np.concatenate([run(*pair) for pair in pairs])
            largest = float(np.abs(found - expected).max())
            rows.append(Parity(name, height, width, len(pairs), float(expected.mean()), largest))
            click.echo(rows[-1])
    manifests = {
        name: json.loads(path.with_suffix(".json").read_text()) for name, path in files.items()
    }
    memory = {"package lpips": in_own_process("package lpips", weights, threads)}
    memory |= {name: in_own_process(str(path), weights, threads) for name, path in on_cpu.items()}
    parity = [
        [
            r.precision,
            f"{r.height_px} x {r.width_px}",
            str(r.pairs),
            f"{r.mean_distance:.4f}",
            f"{r.largest_difference:.1e}",
        ]
        for r in rows
    ]
    forms = [["package lpips", "", "", "", "", f"{memory['package lpips']:.0f}"]]
    for name, manifest in manifests.items():
        distorted = manifest["distorted"]
        forms.append(
            [
                name,
                f"{manifest['bytes'] / 1e6:.1f}",
                f"{distorted['spearman']:.6f}",
                f"{distorted['largest_error']:.1e}",
                f"{distorted['error_pct']:.2g}",
                f"{memory[name]:.0f}" if name in memory else "no CPU kernels",
            ]
        )
    text = [
        "# LPIPS files beside the package lpips\n",
        f"Largest difference from the package on photos, {2 * photos} pairs a size:\n",
        markdown_table(
            ["precision", "size", "pairs", "mean distance", "largest difference"], parity
        ),
        "Size, distorted photos (those of the export's check), and the peak memory of a process "
        "that measures one pair of 224 x 224:\n",
        markdown_table(["form", "MB", "Spearman", "largest error", "RMS %", "peak MiB"], forms),
    ]
    if rounds:
        speed = speed_rows(on_cpu, weights, threads, rounds)
        heads = ["form", "batch x height x width", "times as fast as the package", "95 %"]
        text += [f"Speed in turn, {rounds} rounds:\n", markdown_table(heads, speed)]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(pd.DataFrame([asdict(row) for row in rows]), out / "perceptual.csv")
    write_text(out / "perceptual.md", "\n".join([*text, environment_block(threads)]))


if __name__ == "__main__":
    main()
