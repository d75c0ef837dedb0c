"""Computes the input of fc6-fc8 once and keeps it on disk, to train them on a fixed trunk."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from torch import Tensor

from train.feed.augment import centre_crop
from train.feed.epoch_order import EpochBatches
from train.feed.examples import Examples
from train.feed.feature_announcement import MORE_SPACE, Announcement, seconds_per_image
from train.feed.growing_file import GrowingFile, only_writer
from train.recipe.config import TrainConfig
from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import USUAL, Scale
from vgg_deploy.data.patience import Patience
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, write_text
from vgg_deploy.json_files import entry, read_json_object
from vgg_deploy.net.archs import STRIDE, WIDTHS, thin
from vgg_deploy.net.model import VGG, channel_mean
from vgg_deploy.progress import progress

BATCH = 16
FLOAT16_BYTES = 2
# Images from one state on disk to the next: some 15 s of a full-width net on a few cores. A GPU
# would wait too often for the decoding processes, which start anew.
PART = {"cpu": 64, "cuda": 2048}


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
        patience: How to wait for these processes.
    """

    net: VGG
    side: int
    device: str
    threads: int
    on_error: str
    log: Callable[[str], None]
    patience: Patience = USUAL

    @property
    def scale(self) -> Scale:
        """How images are rescaled."""
        return Scale(self.side, self.net.spec.preprocessing.filter)

    @property
    def trial_batch(self) -> int:
        """Images that the trunk gets at once to see how long they take."""
        return BATCH if self.device == "cuda" else 1


def pool5_features(dataset: Dataset, how: Extraction) -> Features:
    """Compute pool5 of every training image's centre crop.

    The file is kept in the cache folder and used again for the same trunk, images and sizes. If the
    process is stopped, the next one goes on with the parts that were finished.

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
        with only_writer(path, how.log) as waited:
            unreadable = _still_unreadable(path, dataset, how.log) if waited else None
            if unreadable is None:
                unreadable = _compute(dataset, how, path)
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
    return messages_of(dataset, indices)


def messages_of(dataset: Dataset, indices: Iterable[int]) -> dict[int, str] | None:
    """Open images that could not be read.

    Returns:
        What is wrong with an image, by its index; None if one can be read by now.
    """
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
def _compute(dataset: Dataset, how: Extraction, path: Path) -> dict[int, str]:
    """Write the features, from where an earlier process was stopped.

    Returns:
        What is wrong with unreadable images, by index.
    """
    crop, images = how.net.spec.crop, len(dataset)
    one = (pool5_channels(how.net), crop // STRIDE, crop // STRIDE)
    header = _header((images, *one))
    image_bytes = FLOAT16_BYTES * int(np.prod(one, dtype=np.int64))
    pool5 = trunk_of(how)
    trial = (how.trial_batch, crop, crop)
    with closing(GrowingFile(path, MORE_SPACE)) as growing:
        if growing.damaged:
            how.log(computed_again(growing.path))
        unreadable = _unreadable_so_far(growing, dataset, len(header), image_bytes)
        seconds = seconds_per_image(dataset, pool5, trial, *how.scale, how.threads)
        todo = images - growing.steps
        size = len(header) + images * image_bytes
        Announcement("training", images, growing.steps, size, path, todo * seconds).print(
            how.log, shutil.disk_usage(path.parent).free
        )
        if not growing.size:
            growing.write(header)

        def note(index: int, error: InputError) -> None:
            unreadable[index] = error.what

        on_bad = note if how.on_error == "skip" else None
        with progress(
            f"training features of net {how.net.spec.arch}", images, growing.steps
        ) as bar:
            for part, wanted in parts(images, growing.steps, how.device):
                values = np.zeros((len(part), *one), np.float16)
                for batch in size_batches(
                    dataset,
                    {how.scale: wanted},
                    BATCH,
                    how.threads,
                    on_bad,
                    patience=how.patience,
                ):
                    crops = np.stack(
                        [centre_crop(torch.from_numpy(it), crop).numpy() for it in batch.images]
                    )
                    values[batch.indices - part.start] = pool5(crops).half().cpu().numpy()
                    bar.advance(len(batch.indices))
                growing.write(values.reshape(-1).view(np.uint8).data)
                growing.finish_part(len(part), [i for i in part if i in unreadable])
        record = {"unreadable": sorted(unreadable), "sha256": sha256(growing.path)}
        write_text(unreadable_list(path), json.dumps(record))
        growing.finish()
    return unreadable


def parts(images: int, done: int, device: str) -> Iterator[tuple[range, np.ndarray]]:
    """Cut the images that are left into parts.

    Args:
        images: All.
        done: The first ones, which are left out.
        device: "cpu" or "cuda".

    Yields:
        The indices of a part, and (images,) bool that is true for them.
    """
    for first in range(done, images, PART[device]):
        part = range(first, min(first + PART[device], images))
        wanted = np.zeros(images, bool)
        wanted[part.start : part.stop] = True
        yield part, wanted


def _header(shape: tuple[int, ...]) -> bytes:
    """The bytes with which NumPy begins a file of float16 of this shape."""
    file = io.BytesIO()
    kind = dtype_to_descr(np.dtype(np.float16))
    write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _unreadable_so_far(
    growing: GrowingFile, dataset: Dataset, header: int, image_bytes: int
) -> dict[int, str]:
    """The unreadable images of the parts that are done; begins anew if they do not fit.

    Args:
        growing: The features so far.
        dataset: The images.
        header: Bytes.
        image_bytes: Of the features of one image.
    """
    indices = [index for index in growing.notes if type(index) is int]
    fits = growing.size == header + growing.steps * image_bytes
    fits &= growing.steps <= len(dataset) and len(indices) == len(growing.notes)
    if fits and all(0 <= index < growing.steps for index in indices):
        unreadable = messages_of(dataset, indices)
        if unreadable is not None:
            return unreadable
    growing.begin_anew()
    return {}


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
