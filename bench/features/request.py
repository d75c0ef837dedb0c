"""Holds the options of vgg-features in one record."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from vgg_deploy.net.input_convention import Channels, StatedInput


@dataclass(frozen=True)
class FeaturesRequest:
    """The options of vgg-features, named as in its help texts."""

    model: Path | str  # a file, or weights by name
    data: str  # a folder, or the URL of shards
    # what a descriptor is
    layers: tuple[str, ...] | None
    sides: tuple[int, ...] | None  # Q, pixels
    flips: bool
    over_scales: str  # "average", "stack"
    l2: bool
    # which images
    split: str  # "train", "val"
    no_labels: bool
    exif: str  # "ignore", "apply"
    on_error: str  # "stop", "skip"
    # what the model is, and where it runs
    device: str
    runtime: str | None
    precision: str
    threads: int | None  # of each process; None: its share of the cores
    batch: int
    mean: Channels | None
    std: Channels | None
    channel_order: str | None
    crop: int | None
    verify: Path | None  # a public key
    # what is written
    out: Path
    form: str  # "npy", "parquet"
    images_per_shard: int

    @property
    def stated(self) -> StatedInput:
        """The input of weights of other projects.

        Raises:
            InputError: If mean and std have different units.
        """
        return StatedInput(self.mean, self.std, self.channel_order, self.crop)


def refuse_contradictions(request: FeaturesRequest) -> None:
    """Check options that are wrong together, whatever the files contain.

    Raises:
        click.UsageError: If two options contradict each other.
        InputError: If the stated input contradicts itself.
    """
    _ = request.stated  # the record checks itself
    if request.no_labels and request.split == "train":
        raise click.UsageError(
            f"--no-labels lists a folder as it is; name {request.data}/train, and leave --split out"
        )
    images, out = (Path(os.path.realpath(path)) for path in (request.data, request.out))
    if images in (out, *out.parents):
        raise click.UsageError(
            f"--out {request.out} is in the folder of the images, {request.data}, which it would "
            "change; choose one outside of it"
        )
