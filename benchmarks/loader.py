"""What the loaders deliver, alone: python benchmarks/loader.py --data FOLDER

Training: decode, rescale to S, crop, flip, shift, batches. Dense evaluation: decode, rescale to Q, batches by size. Both in a process
a core. Images/s, and per core; of the evaluation also what the main process does an image, which no number of cores makes less. With
--enlarge 375 the photos are first written anew with that shorter side, the size of most of ILSVRC's.
"""

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from PIL import Image

from bench.results.environment import describe_environment
from train.feed.loader import train_batches
from train.feed.views import Views
from train.recipe.config import TrainConfig
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import Preprocessing

WARM_UP = 4  # batches, while the worker processes start


def training_rate(dataset: Dataset, side: tuple[int, int], workers: int, seconds: float) -> float:
    """Images a second of the training loader."""
    config = TrainConfig(arch="A", batch=min(64, len(dataset)), epochs=10**6, side=side)
    batches = train_batches(
        Views(dataset, config, Preprocessing(), np.eye(3) * 20), 0, workers, False
    )
    for _ in range(WARM_UP * max(1, workers)):
        next(batches)
    begun, images = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        images += len(next(batches).labels)
    return images / (time.perf_counter() - begun)


def evaluation_rate(
    dataset: Dataset, sides: tuple[int, ...], decoders: int, seconds: float
) -> tuple[float, float]:
    """Images a second of the bench's loader, each at every Q, and milliseconds of the main process's own time an image."""
    wanted = {Scale(side, "bilinear"): np.ones(len(dataset), bool) for side in sides}
    begun, own, images = time.perf_counter(), time.process_time(), 0.0
    while time.perf_counter() - begun < seconds:
        for batch in size_batches(dataset, wanted, 16, decoders):
            images += len(batch.indices) / len(sides)
    return images / (time.perf_counter() - begun), 1000 * (time.process_time() - own) / images


def enlarged(dataset: Dataset, side: int, folder: Path) -> Dataset:
    """The same photos with this shorter side, JPEG quality 90."""
    for i in range(len(dataset)):
        path = folder / "val" / dataset.classes[dataset.labels[i]] / f"{i}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(dataset.path(i)) as image:
            scale = side / min(image.size)
            image.convert("RGB").resize(
                [round(s * scale) for s in image.size], Image.Resampling.BICUBIC
            ).save(path, quality=90)
    return open_dataset(folder, "val")


@click.command(context_settings={"show_default": True})
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder with val/<class>/*."
)
@click.option("--images", default=500)
@click.option("--enlarge", type=int, help="Shorter side, pixels.")
@click.option("--seconds", default=8.0, help="Of each row.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(data, images, enlarge, seconds, out):
    cores = available_cores()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = open_dataset(data, "val").subset(images)
        dataset = enlarged(dataset, enlarge, Path(scratch)) if enlarge else dataset
        sizes = [Image.open(dataset.path(i)).size for i in range(len(dataset))]
        rows = [
            {
                "loader": "training, S 256",
                "images_per_s": training_rate(dataset, (256, 256), cores, seconds),
            },
            {
                "loader": "training, S [256;512]",
                "images_per_s": training_rate(dataset, (256, 512), cores, seconds),
            },
        ]
        for sides in ((256,), (256, 384, 512)):
            rate, own_ms = evaluation_rate(dataset, sides, cores, seconds)
            rows.append(
                {
                    "loader": f"evaluation, Q {', '.join(map(str, sides))}",
                    "images_per_s": rate,
                    "main_ms_per_image": own_ms,
                }
            )
    table = pd.DataFrame(rows).assign(cores=cores)
    table["per_core"] = table.images_per_s / cores
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"loader_{cores}_cores.csv", index=False)
    lines = [
        f"| {r.loader} | {r.images_per_s:.0f} | {r.per_core:.0f} | {'' if np.isnan(r.main_ms_per_image) else f'{r.main_ms_per_image:.2f}'} |"
        for r in table.itertuples()
    ]
    width, height = np.mean(sizes, axis=0)
    (out / f"loader_{cores}_cores.md").write_text(
        f"# The loaders alone, {cores} cores\n\n{len(sizes)} JPEG photos of {width:.0f} x {height:.0f} pixels on average"
        f"{f', enlarged to a shorter side of {enlarge}' if enlarge else ''}.\n\n"
        "| loader | images/s | per core | main process ms/image |\n| --- | --- | --- | --- |\n"
        + "\n".join(lines)
        + f"\n\n```json\n{json.dumps(describe_environment(cores), indent=2)}\n```\n"
    )
    print((out / f"loader_{cores}_cores.md").read_text())


if __name__ == "__main__":
    main()
