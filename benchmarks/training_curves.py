"""Compares how nets learn by our update and by a plain loop: python benchmarks/training_curves.py.

    python benchmarks/training_curves.py --data photos --epochs 12

The plain loop is written in this file: PyTorch's modules as they are, float32, SGD with momentum
and weight decay. Ours is the update of `python -m train`, in float32 and in bfloat16. With one seed
all of them start from the same weights and see the same images in the same order; dropout is off,
as in the small recipe, because its masks are drawn in different ways. So what differs between them
is arithmetic alone: its order, its type, and that the plain loop decays biases too.

Of each epoch the table gives the mean training loss and the validation error: their mean over the
seeds, the spread of the plain loop's seeds, and how far ours are from the plain loop's mean.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from result_tables import environment_block, markdown_table, write_csv
from torch.nn.functional import cross_entropy

from train.feed.examples import Examples
from train.options.run_settings import RunSettings
from train.recipe.config import RECIPES, TrainConfig
from train.session import set_up_torch
from train.step.trainee import shape_for_training, shaped
from train.step.update import Updater
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.files import write_text
from vgg_deploy.images.decode import rescale
from vgg_deploy.job import ALONE
from vgg_deploy.machine import available_cores
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.progress import progress

PLAIN, OURS, OURS_BF16 = "plain loop, fp32", "ours, fp32", "ours, bf16"
MEAN = torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
COLOURS = {PLAIN: "#4a5568", OURS: "#2b6cb0", OURS_BF16: "#c05621"}

Batch = tuple[torch.Tensor, torch.Tensor]  # (N, 3, crop, crop) float32, (N,) int64
Update = Callable[[torch.Tensor, torch.Tensor, int], float]  # images, labels, number: mean loss


def images_of(data: Path, split: str, crop: int) -> Batch:
    """All images of a split, their centre at the crop's size, minus the mean."""
    dataset = open_dataset(data, split)
    images = torch.empty(len(dataset), 3, crop, crop)
    labels = torch.empty(len(dataset), dtype=torch.int64)
    with progress(f"images of {split}", len(dataset)) as bar:
        for i in range(len(dataset)):
            item = dataset[i]
            image = rescale(item.image, crop)
            top, left = (image.shape[1] - crop) // 2, (image.shape[2] - crop) // 2
            images[i] = image[:, top : top + crop, left : left + crop].float() - MEAN
            labels[i] = item.label
            bar.advance()
    return images, labels


def batches(data: Batch, batch: int, seed: int, epoch: int) -> Iterator[Batch]:
    """Whole batches of one epoch, shuffled; half of the images are flipped."""
    draw = torch.Generator().manual_seed(1000 * seed + epoch)
    images, labels = data
    for rows in torch.randperm(len(labels), generator=draw).split(batch):
        if len(rows) < batch:
            return
        flipped = torch.rand(batch, generator=draw) < 0.5
        chosen = images[rows]
        chosen[flipped] = chosen[flipped].flip(3)
        yield chosen, labels[rows]


def plain(net: VGG, config: TrainConfig) -> Update:
    """PyTorch's own modules and SGD."""
    optimiser = torch.optim.SGD(
        net.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )

    def update(images: torch.Tensor, labels: torch.Tensor, number: int) -> float:
        optimiser.zero_grad()
        loss = cross_entropy(net(images).flatten(1), labels)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return update


def ours(net: VGG, config: TrainConfig) -> Update:
    """The update of `python -m train`."""
    updater = Updater(net, False, config, ALONE, compiled=False)
    rows = torch.arange(config.batch)

    def update(images: torch.Tensor, labels: torch.Tensor, number: int) -> float:
        examples = Examples(shaped(images, config.precision), labels, rows)
        return float(updater.step(examples, number, config.batch)[0]) / config.batch

    return update


@torch.no_grad()
def error_pct(net: VGG, data: Batch, batch: int) -> float:
    """Top-1 error in float32; the same for every way."""
    copy = VGG(net.spec)
    copy.load_state_dict(net.state_dict())
    copy.eval()
    images, labels = data
    found = torch.cat([copy(part).flatten(1).argmax(1) for part in images.split(batch)])
    return 100 * float((found != labels).double().mean())


def learn(
    way: str,
    config: TrainConfig,
    train: Batch,
    val: Batch,
    classes: tuple[str, ...],
    advance: Callable[[str], None],
) -> Iterator[dict[str, object]]:
    """One row per epoch."""
    spec = NetSpec(config.arch, classes, width=config.width, crop=config.crop)
    net = VGG(spec, dropout=config.dropout)
    initialise(net, config.init, torch.Generator().manual_seed(config.seed))
    net.train()
    if way == PLAIN:
        update = plain(net, config)
    else:
        net = shape_for_training(net, "cpu", config.precision)
        update = ours(net, config)
    number = 0
    for epoch in range(config.epochs):
        losses, start = [], time.perf_counter()
        for images, labels in batches(train, config.batch, config.seed, epoch):
            losses.append(update(images, labels, number))
            number += 1
            advance(f"{way}, seed {config.seed}")
        yield {
            "way": way,
            "seed": config.seed,
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)),
            "val_error_pct": error_pct(net, val, 100),
            "seconds": time.perf_counter() - start,
        }


def summary(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Of each epoch and measure: means, the plain loop's spread, and the distance of ours."""
    rows = []
    for epoch, of_epoch in table.groupby("epoch"):
        for measure in ("loss", "val_error_pct"):
            by_way = {way: rows_[measure].to_numpy() for way, rows_ in of_epoch.groupby("way")}
            base = by_way[PLAIN]
            cells = [str(epoch), measure, f"{base.mean():.3f} ({base.min():.3f}-{base.max():.3f})"]
            for way in (OURS, OURS_BF16):
                values = by_way[way]
                inside = base.min() <= values.mean() <= base.max()
                text = f"{values.mean():.3f} ({values.min():.3f}-{values.max():.3f})"
                cells += [text, "yes" if inside else f"{values.mean() - base.mean():+.3f}"]
            rows.append(tuple(cells))
    return rows


@mpl.rc_context({"svg.hashsalt": "curves"})
def draw(table: pd.DataFrame, path: Path) -> None:
    """Loss and error against epochs: every seed thin, means bold."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    labels = {"loss": "training loss, nats", "val_error_pct": "validation top-1 error, %"}
    for axis, (measure, label) in zip(axes, labels.items(), strict=True):
        for way, of_way in table.groupby("way"):
            for _, of_seed in of_way.groupby("seed"):
                axis.plot(of_seed.epoch, of_seed[measure], color=COLOURS[way], lw=0.7, alpha=0.5)
            mean = of_way.groupby("epoch")[measure].mean()
            axis.plot(mean.index, mean, color=COLOURS[way], lw=2, label=way)
        axis.set(xlabel="epoch", ylabel=label)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Photos, by split.")
@click.option("--arch", default="A")
@click.option("--width", default=0.25)
@click.option("--crop", default=96)
@click.option("--batch", default=36)
@click.option("--epochs", default=10)
@click.option("--seeds", default=3)
@click.option("--threads", default=available_cores())
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    data: Path,
    arch: str,
    width: float,
    crop: int,
    batch: int,
    epochs: int,
    seeds: int,
    threads: int,
    out: Path,
) -> None:
    """Train with every seed in every way, and write training_curves.{csv,md,png}."""
    set_up_torch(RunSettings("cpu", threads, 0, "stop"))
    small = replace(RECIPES["small"], arch=arch, width=width, crop=crop, batch=batch, epochs=epochs)
    classes = tuple(open_dataset(data, "val").classes)
    train, val = (images_of(data, split, crop) for split in ("train", "val"))
    ways = {PLAIN: "fp32", OURS: "fp32", OURS_BF16: "bf16"}
    steps = len(ways) * seeds * epochs * (len(train[1]) // batch)
    rows: list[dict[str, object]] = []
    with progress("curves", steps) as bar:
        for seed in range(seeds):
            for way, precision in ways.items():
                config = replace(small, seed=seed, precision=precision)
                rows += learn(way, config, train, val, classes, lambda text: bar.advance(1, text))
                table = pd.DataFrame(rows)
                write_csv(table, out / "training_curves.csv")
    heads = ("epoch", "measure", PLAIN, OURS, "within its range", OURS_BF16, "within its range")
    what = (
        f"Net {arch}, {width:g} of the width, crop {crop}, batch {batch}, {seeds} seeds. Mean of "
        "the seeds, smallest and largest. Within its range: whether the mean lies in the range of "
        "the plain loop's seeds, else how far it is from the plain loop's mean."
    )
    text = markdown_table(heads, summary(table))
    picture = "![loss and error against epochs](training_curves.png)"
    blocks = ["# Curves of our update and of a plain loop", what, picture, text]
    write_text(
        out / "training_curves.md", "\n\n".join([*blocks, environment_block(threads)]) + "\n"
    )
    draw(table, out / "training_curves.png")


if __name__ == "__main__":
    main()
