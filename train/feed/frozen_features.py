"""Computes the input of fc6-fc8 once and keeps it on disk, to train them on a fixed trunk."""

import hashlib
import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from train.feed.augment import centre_crop
from train.feed.epoch_order import EpochBatches
from train.feed.examples import Examples
from train.recipe.config import TrainConfig
from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.json_files import entry, read_json_object
from vgg_deploy.net.archs import STRIDE, WIDTHS, thin
from vgg_deploy.net.model import VGG, channel_mean
from vgg_deploy.progress import progress

BATCH = 16
FLOAT16_BYTES = 2


class Features(NamedTuple):
    """pool5 of a data set's images.

    Attributes:
        values: (images, C, crop/32, crop/32) float16, mapped from disk; zeros for unreadable
            images.
        unreadable: What is wrong with an image, by its index.
    """

    values: np.ndarray
    unreadable: dict[int, str]


class Extraction(NamedTuple):
    """How pool5 is computed.

    Attributes:
        net: With its trained trunk.
        side: S or Q, the shorter image side in pixels.
        device: "cpu" or "cuda".
        threads: Processes that decode.
        on_error: "stop" or "skip" for unreadable images.
        log: Prints a line.
    """

    net: VGG
    side: int
    device: str
    threads: int
    on_error: str
    log: Callable[[str], None]


def pool5_features(dataset: Dataset, how: Extraction) -> Features:
    """Compute pool5 of every training image's centre crop.

    The file is kept in the cache folder and used again for the same trunk, images and sizes.

    Args:
        dataset: Training images.
        how: Trunk, scale and treatment of unreadable images.

    Returns:
        The features.

    Raises:
        InputError: An image is unreadable and they are not skipped, or the disk has too little
            space.
    """
    path = cache_path(dataset, how, f"crop {how.net.spec.crop}", "train", ".npy")
    unreadable = _still_unreadable(path, dataset, how.log)
    if unreadable is None:
        path = writable_folder(path.parent) / path.name
        with whole_file(path) as partial:
            unreadable = _compute(dataset, how, partial, path)
            record = {"unreadable": sorted(unreadable), "sha256": sha256(partial)}
            write_text(unreadable_list(path), json.dumps(record))
    if unreadable and how.on_error == "stop":
        raise InputError(next(iter(unreadable.values())))
    return Features(np.load(path, mmap_mode="r"), unreadable)


def cache_path(dataset: Dataset, how: Extraction, views: str, split: str, suffix: str) -> Path:
    """Name a file in the cache folder by the trunk, the images, their size and preprocessing.

    Args:
        dataset: The images.
        how: Trunk and scale.
        views: What is taken of an image.
        split: For people, part of the name.
        suffix: With its dot.

    Returns:
        The path; another one if anything of it changes.
    """
    spec = how.net.spec
    key = hashlib.sha256(
        f"{dataset.fingerprint()} {how.side} {views} {spec.preprocessing}".encode()
    )
    for tensor in how.net.trunk.state_dict().values():
        key.update(tensor.cpu().contiguous().numpy().data)
    return cache_folder() / "features" / f"{spec.arch}-{split}-{key.hexdigest()[:24]}{suffix}"


def unreadable_list(path: Path) -> Path:
    """The file beside cached features: indices of images without any, and their SHA-256."""
    return path.with_name(f"{path.name}.unreadable.json")


def trunk_of(how: Extraction) -> Callable[[np.ndarray], Tensor]:
    """Prepare the trunk.

    Args:
        how: The net and its device.

    Returns:
        A function from (N, 3, h, w) uint8 RGB to pool5, (N, C, h/32, w/32) float32 on the device.
    """
    trunk = how.net.trunk.eval()
    mean = channel_mean(how.net.spec.preprocessing, how.device)

    def pool5(images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).to(how.device).float() - mean
        features: Tensor = trunk(pixels.contiguous(memory_format=torch.channels_last))
        return features

    return pool5


def pool5_channels(net: VGG) -> int:
    """C of pool5."""
    return thin(WIDTHS[-1], net.spec.width)


def _still_unreadable(
    path: Path, dataset: Dataset, log: Callable[[str], None]
) -> dict[int, str] | None:
    """The unreadable images of cached features.

    Returns:
        What is wrong with an image, by its index. None if the features must be computed: they do
        not exist, are damaged, or an image that was unreadable can be read by now.
    """
    if not path.is_file():
        return None
    indices = _unreadable_indices(path, len(dataset))
    if indices is None:
        log(computed_again(path))
        return None
    unreadable = {}
    for index in indices:
        try:
            dataset.image(index)
        except InputError as error:
            unreadable[index] = error.what
        else:
            return None
    return unreadable


def computed_again(path: Path) -> str:
    """The line for cached features that are not as they were written."""
    return f"{path}: the cached features are damaged, or of an earlier version; computed again"


def _unreadable_indices(path: Path, images: int) -> list[int] | None:
    """Read which images have no features.

    Args:
        path: Of the features.
        images: How many there are.

    Returns:
        Their indices; None if a file is not as it was written.
    """
    try:
        record = read_json_object(unreadable_list(path))
        indices: list[int] = entry(record, "unreadable", list, "the list")
        intact = record.get("sha256") == sha256(path)
        known = all(type(index) is int and 0 <= index < images for index in indices)
    except InputError:
        return None
    return indices if intact and known else None


@torch.inference_mode()
def _compute(dataset: Dataset, how: Extraction, partial: Path, path: Path) -> dict[int, str]:
    """Write the features to `partial`.

    Returns:
        What is wrong with unreadable images, by index.
    """
    crop = how.net.spec.crop
    shape = (len(dataset), pool5_channels(how.net), crop // STRIDE, crop // STRIDE)
    size = FLOAT16_BYTES * int(np.prod(shape, dtype=np.int64))
    announce(dataset, "training", size, path, how.log)
    pool5 = trunk_of(how)
    features = open_memmap(partial, "w+", np.float16, shape)
    unreadable: dict[int, str] = {}

    def note(index: int, error: InputError) -> None:
        unreadable[index] = error.what

    on_bad = note if how.on_error == "skip" else None
    scales = {Scale(how.side, how.net.spec.preprocessing.filter): np.ones(len(dataset), bool)}
    with progress(f"training features of net {how.net.spec.arch}", len(dataset)) as bar:
        for batch in size_batches(dataset, scales, BATCH, how.threads, on_bad):
            crops = np.stack(
                [centre_crop(torch.from_numpy(image), crop).numpy() for image in batch.images]
            )
            features[batch.indices] = pool5(crops).half().cpu().numpy()
            bar.advance(len(batch.indices))
    features.flush()
    return unreadable


def announce(
    dataset: Dataset, kind: str, size: int, path: Path, log: Callable[[str], None]
) -> None:
    """Print how large a file of features will be.

    Args:
        dataset: The images.
        kind: "training" or "validation".
        size: Bytes.
        path: Of the file.
        log: Prints a line.

    Raises:
        InputError: The disk has less space.
    """
    log(
        f"Features of {len(dataset)} {kind} images are computed once and kept: about "
        f"{size / 1e6:,.1f} MB in {path.parent}"
    )
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(
            f"{path.parent}: {size / 1e6:,.1f} MB are needed for features and {free / 1e6:,.1f} "
            "MB are free; make space, or set VGG_DEPLOY_CACHE to a folder with more"
        )


def feature_batches(
    features: Features,
    labels: np.ndarray,
    config: TrainConfig,
    begin: int,
    device: str,
    boxes: np.ndarray | None = None,
) -> Generator[Examples, None, None]:
    """Read batches in the order in which the images would come, without the unreadable ones.

    Args:
        features: Of the training images.
        labels: (images,) int64.
        config: Batch, epochs and seed.
        begin: First step, counted over the run from 0.
        device: "cpu" or "cuda".
        boxes: (images, 4) float32, what a localiser should say; None for a classifier.

    Yields:
        The batch of each step to the end of the last epoch.

    Raises:
        InputError: No image of a batch is readable.
    """
    readable = np.ones(len(labels), bool)
    readable[list(features.unreadable)] = False
    for keys in EpochBatches(len(labels), config.batch, config.epochs, config.seed, begin):
        batch = np.sort([index for _, index in keys])
        rows = np.flatnonzero(readable[batch])
        if not len(rows):
            raise InputError(f"not one image of a batch of {config.batch} could be read")
        chosen = batch[rows]
        inputs = torch.from_numpy(features.values[chosen].astype(np.float32)).to(device)
        yield Examples(
            inputs,
            torch.from_numpy(labels[chosen]).to(device),
            torch.from_numpy(rows).to(device),
            None if boxes is None else torch.from_numpy(boxes[chosen]).to(device),
        )


def refuse_unless_given(weights: Path | str | None) -> None:
    """Check that there are weights to freeze: features of a random trunk are worth nothing.

    Args:
        weights: The trained weights, a file or a name.

    Raises:
        InputError: None is given.
    """
    if weights is None:
        raise InputError(
            "--freeze-features needs trained convolutions; name them with --weights FILE"
        )
