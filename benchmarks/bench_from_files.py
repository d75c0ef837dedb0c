"""Measures `python -m bench` from JPEG files to its table, against the bound of its parts.

    python benchmarks/bench_from_files.py --kept FOLDER

The images are made here: noise with a photo's spectrum in the most common sizes of ILSVRC's photos,
as JPEG. Measured separately: decoding and rescaling to Q with all cores, and the net over the same
batches from host memory. The slower one bounds the bench. Then the whole command. Decoding and the
command run with few images and with all: the difference gives images/s, without one-time costs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image
from result_rows import ResultRows
from result_tables import environment_block

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.size_batches import Batch, size_batches
from vgg_deploy.machine import available_cores
from vgg_deploy.runtimes import open_runtime

SIZES = ((500, 375), (500, 375), (500, 375), (375, 500), (500, 333), (640, 480))  # width, height
OCTAVES = 7
QUALITY = 90
LEAST_RATIO = 1.5  # of both commands' times; below it their difference is mostly noise
WAYS = {"PyTorch bf16": (".pt", "bf16"), "ONNX Runtime fp16": (".fp16.onnx", "fp16")}
TABLE = {
    "way": "way",
    "Q": "q_px",
    "batch": "batch",
    "images": "images",
    "decode images/s": "decode_images_per_s:.0f",
    "net images/s": "net_images_per_s:.0f",
    "bound images/s": "bound_images_per_s:.0f",
    "bench images/s": "bench_images_per_s:.0f",
    "% of the bound": "of_bound_pct:.0f",
    "command s": "command_s:.1f",
    "once s": "once_s:.1f",
    "failure": "failure",
}


def make_image(path: Path, seed: int) -> None:
    """Write one JPEG of colour noise whose strength falls with its frequency."""
    width, height = SIZES[seed % len(SIZES)]
    draw = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0, np.float32)
    for octave in range(OCTAVES):
        coarse = [max(2, side >> (OCTAVES - 1 - octave)) for side in (width, height)]
        noise = draw.integers(0, 256, (coarse[1], coarse[0], 3), np.uint8)
        grown = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(grown, np.float32) - 128) / 2 ** (octave / 3 + 0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)


def make_images(folder: Path, count: int, cores: int) -> Dataset:
    """A data set of `count` JPEG files in ten classes; missing files are made."""
    paths = [folder / "val" / str(seed % 10) / f"{seed:05d}.jpeg" for seed in range(count)]
    missing = [seed for seed in range(count) if not paths[seed].is_file()]
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(make_image, [paths[seed] for seed in missing], missing, chunksize=8))
    return open_dataset(folder, "val")


def decoded(dataset: Dataset, side: int, batch: int, cores: int) -> tuple[list[Batch], float]:
    """All images as batches of one size each, and the seconds that took."""
    of_scale = {Scale(side, "bilinear"): np.ones(len(dataset), bool)}
    start = time.perf_counter()
    batches = list(size_batches(dataset, of_scale, batch, cores))
    return batches, time.perf_counter() - start


def net_s(model: Path, precision: str, device: str, batches: list[Batch], cores: int) -> float:
    """Seconds of the net over these batches, from host memory to host memory, every shape warm."""
    runtime = open_runtime(model, device, cores, precision=precision)
    for images in {batch.images.shape: batch.images for batch in batches}.values():
        runtime(images)
    start = time.perf_counter()
    for batch in batches:
        runtime(batch.images)
    return time.perf_counter() - start


def command_s(
    model: Path, precision: str, device: str, data: Path, side: int, batch: int, images: int
) -> float:
    """Seconds of the whole command.

    Raises:
        RuntimeError: With the command's last line if it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            *(sys.executable, "-m", "bench", str(model), "--no-flips", "--measure", "accuracy"),
            *("--device", device),
            *("--data", str(data)),
            *("--scales", str(side)),
            *("--images", str(images)),
            *("--accuracy-batch", str(batch)),
            *("--cells", f"{scratch}/cells"),
            *("--out", f"{scratch}/out"),
        ]
        if model.suffix == ".pt":
            command += ["--torch-precision", precision]
        root = Path(__file__).parent.parent
        paths = [str(root), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        spent = time.perf_counter() - start
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise RuntimeError(lines[-1][:300])
    return spent


@click.command(context_settings={"show_default": True})
@click.option(
    "--kept",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with D.pt and D.fp16.onnx of gpu_speed.py --prepare; images go there too.",
)
@click.option("--images", default=2000, help="JPEG files.")
@click.option("--few", default=500, help="Images of the short run.")
@click.option("--side", default=256, help="Q, pixels.")
@click.option("--batch", default=32, help="Largest batch.")
@click.option("--device", default="cuda", type=click.Choice(("cuda", "cpu")))
@click.option("--prepare", is_flag=True, help="Only make the images.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    kept: Path, images: int, few: int, side: int, batch: int, device: str, prepare: bool, out: Path
) -> None:
    """Write bench_from_files_DEVICE.csv and .md."""
    if not 0 < few < images:
        raise click.BadParameter(
            f"{few} is not between 0 and --images {images}", param_hint="--few"
        )
    cores, data = available_cores(), kept / f"images-{images}"
    dataset = make_images(data, images, cores)
    if prepare:
        return
    title = f"The bench from {images} JPEG files, {cores} cores, {device}"
    results = ResultRows(out / f"bench_from_files_{device}.csv", title, TABLE)
    decoded(dataset.subset(few), side, batch, cores)  # the costs of a first pass
    few_s = decoded(dataset.subset(few), side, batch, cores)[1]
    batches, all_s = decoded(dataset, side, batch, cores)
    decode_speed = (images - few) / (all_s - few_s)
    for name, (suffix, precision) in WAYS.items():
        row: dict[str, object] = {
            "way": name,
            "device": device,
            "cores": cores,
            "q_px": side,
            "batch": batch,
            "images": images,
            "decode_images_per_s": decode_speed,
        }
        model = kept / f"D{suffix}"
        try:
            net_speed = images / net_s(model, precision, device, batches, cores)
            bound = min(decode_speed, net_speed)
            row |= {"net_images_per_s": net_speed, "bound_images_per_s": bound}
            short = command_s(model, precision, device, data, side, batch, few)
            whole = command_s(model, precision, device, data, side, batch, images)
            row |= command_speed(short, whole, few, images, bound)
        except Exception as error:  # one way that fails must not lose the other
            row["failure"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        results.add(row)
        print("measured:", json.dumps(row), flush=True)
    results.note(f"\n{environment_block(cores)}".rstrip())
    print(results.markdown())


def command_speed(
    short_s: float, whole_s: float, few: int, images: int, bound: float
) -> dict[str, object]:
    """Columns about the command, from its times with few images and with all.

    Args:
        short_s: Seconds with few images.
        whole_s: Seconds with all images.
        few: Number of images of the short run.
        images: Number of all images.
        bound: Images per second of its slower part.
    """
    columns: dict[str, object] = {"command_s": whole_s, "few_command_s": short_s}
    if whole_s < LEAST_RATIO * short_s:
        return columns | {"failure": "too few images: starting takes most of the time"}
    speed = (images - few) / (whole_s - short_s)
    return columns | {
        "bench_images_per_s": speed,
        "of_bound_pct": 100 * speed / bound,
        "once_s": whole_s - images / speed,
    }


if __name__ == "__main__":
    main()
