"""Measures what the loaders deliver, without a net: python benchmarks/loader.py --data FOLDER.

Training: decode, rescale to S, crop, flip, shift, batches. Dense evaluation: decode, rescale to Q,
batches by size. Both use one process per core. Results are images/s, also per core. For the
evaluation they include the time per image of the main process itself, which more cores do not
reduce. With --enlarge 375 the photos are first written again with that shorter side, the size of
most of ILSVRC's.
"""

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from PIL import Image
from result_rows import markdown_table

from bench.results.environment import describe_environment
from train.feed.loader import train_batches
from train.feed.views import Views
from train.recipe.config import TrainConfig
from vgg_deploy.data.dataset import Dataset, open_dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import Preprocessing

WARM_UP = 4  # batches per worker process, while these start
EVALUATION_BATCH = 16
TABLE = {
    "loader": "loader",
    "images/s": "images_per_s:.0f",
    "per core": "per_core:.0f",
    "main process ms/image": "main_ms_per_image:.2f",
}


def training_rate(dataset: Dataset, side: tuple[int, int], workers: int, seconds: float) -> float:
    """Images per second of the training loader.

    Args:
        dataset: The images.
        side: Closed range of S, pixels.
        workers: Loader processes.
        seconds: Least time to measure.

    Returns:
        Images per second.
    """
    config = TrainConfig(arch="A", batch=min(64, len(dataset)), epochs=10**6, side=side)
    views = Views(dataset, config, Preprocessing(), components=np.eye(3) * 20)
    batches = train_batches(views, begin=0, workers=workers, pin=False)
    for _ in range(WARM_UP * max(1, workers)):
        next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += len(next(batches).labels)
    return images / (time.perf_counter() - start)


def evaluation_rate(
    dataset: Dataset, sides: tuple[int, ...], decoders: int, seconds: float
) -> tuple[float, float]:
    """Speed of the bench's loader, each image at every Q.

    Args:
        dataset: The images.
        sides: The values of Q, pixels.
        decoders: Processes that decode.
        seconds: Least time to measure.

    Returns:
        Images per second, and milliseconds per image of the main process's own time.
    """
    scales = {Scale(side, "bilinear"): np.ones(len(dataset), bool) for side in sides}
    start, own_start, images = time.perf_counter(), time.process_time(), 0.0
    while time.perf_counter() - start < seconds:
        for batch in size_batches(dataset, scales, EVALUATION_BATCH, decoders):
            images += len(batch.indices) / len(sides)
    own_s = time.process_time() - own_start
    return images / (time.perf_counter() - start), 1000 * own_s / images


def enlarged(dataset: Dataset, side: int, folder: Path) -> Dataset:
    """The same photos with this shorter side, JPEG quality 90."""
    for index in range(len(dataset)):
        path = folder / "val" / dataset.classes[dataset.labels[index]] / f"{index}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(dataset.path(index)) as image:
            scale = side / min(image.size)
            width, height = (round(length * scale) for length in image.size)
            larger = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            larger.save(path, quality=90)
    return open_dataset(folder, "val")


def measured(dataset: Dataset, cores: int, seconds: float) -> pd.DataFrame:
    """A row per loader and scale."""
    rows: list[dict[str, str | float]] = []
    for name, side in (("S 256", (256, 256)), ("S [256;512]", (256, 512))):
        rate = training_rate(dataset, side, cores, seconds)
        rows.append({"loader": f"training, {name}", "images_per_s": rate})
    for sides in ((256,), (256, 384, 512)):
        rate, own_ms = evaluation_rate(dataset, sides, cores, seconds)
        name = f"evaluation, Q {', '.join(map(str, sides))}"
        rows.append({"loader": name, "images_per_s": rate, "main_ms_per_image": own_ms})
    table = pd.DataFrame(rows).assign(cores=cores)
    table["per_core"] = table.images_per_s / cores
    return table


def report(table: pd.DataFrame, photos: str, cores: int) -> str:
    """The Markdown page."""
    environment = json.dumps(describe_environment(cores), indent=2)
    return (
        f"# The loaders alone, {cores} cores\n\n{photos}\n\n"
        f"{markdown_table(table.to_dict('records'), TABLE)}"
        f"\n```json\n{environment}\n```\n"
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder with val/<class>/*."
)
@click.option("--images", default=500, help="Photos to use.")
@click.option("--enlarge", type=int, help="Shorter side, pixels.")
@click.option("--seconds", default=8.0, help="Per row.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(data: Path, images: int, enlarge: int | None, seconds: float, out: Path) -> None:
    """Write loader_N_cores.csv and .md."""
    cores = available_cores()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = open_dataset(data, "val").subset(images)
        if enlarge:
            dataset = enlarged(dataset, enlarge, Path(scratch))
        sizes = [Image.open(dataset.path(index)).size for index in range(len(dataset))]
        table = measured(dataset, cores, seconds)
    width, height = np.mean(sizes, axis=0)
    photos = f"{len(sizes)} JPEG photos of {width:.0f} x {height:.0f} pixels on average"
    if enlarge:
        photos += f", enlarged to a shorter side of {enlarge}"
    text = report(table, f"{photos}.", cores)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"loader_{cores}_cores.csv", index=False)
    (out / f"loader_{cores}_cores.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
