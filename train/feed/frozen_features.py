"""Training fc6-fc8 alone on features of a fixed trunk, computed once and kept on disk."""

import hashlib
import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap

from train.feed.augment import centre_crop
from train.feed.examples import Examples
from train.feed.loader import EpochBatches
from train.recipe.config import TrainConfig
from vgg_deploy.cache import cache_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.archs import STRIDE, WIDTHS, thin
from vgg_deploy.net.model import VGG
from vgg_deploy.progress import progress

BATCH = 16


class Features(NamedTuple):
    """pool5 of a data set's images."""

    # (images, C, crop/32, crop/32) float16, mapped from disk; zeros for unreadable images
    values: np.ndarray
    unreadable: dict[int, str]  # what is wrong with an image, by its index


class Extraction(NamedTuple):
    """How pool5 is computed."""

    net: VGG  # with its trained trunk
    side: int  # S or Q, the shorter image side in pixels
    device: str
    threads: int  # processes that decode
    on_error: str  # "stop" or "skip" for unreadable images
    say: Callable[[str], None]  # prints a line


def pool5_features(dataset: Dataset, how: Extraction) -> Features:
    """pool5 of every training image's centre crop.

    The file is kept in the cache folder and used again for the same trunk, images and sizes.
    Raises: InputError for the first unreadable image unless they are skipped, and if the disk has
        too little space.
    """
    path = cache_path(dataset, how, f"crop {how.net.spec.crop}", "train", ".npy")
    unreadable = _still_unreadable(path, dataset, how.say)
    if unreadable is None:
        with whole_file(path) as partial:
            unreadable = _compute(dataset, how, partial, path)
            kept = {"unreadable": sorted(unreadable), "sha256": sha256(partial)}
            write_text(unreadable_list(path), json.dumps(kept))
    if unreadable and how.on_error == "stop":
        raise InputError(next(iter(unreadable.values())))
    return Features(np.load(path, mmap_mode="r"), unreadable)


def cache_path(dataset: Dataset, how: Extraction, views: str, split: str, suffix: str) -> Path:
    """A file name in the cache folder that changes with the trunk, the images, their size and
    preprocessing.

    Args: views, what is taken of an image; split, for people; suffix, with its dot.
    """
    spec = how.net.spec
    key = hashlib.sha256(
        f"{dataset.fingerprint()} {how.side} {views} {spec.preprocessing}".encode()
    )
    for tensor in how.net.trunk.state_dict().values():
        key.update(tensor.cpu().contiguous().numpy().data)
    return cache_folder() / "features" / f"{spec.arch}-{split}-{key.hexdigest()[:24]}{suffix}"


def unreadable_list(path: Path) -> Path:
    """The file beside cached features with the indices of images without any, and their SHA-256."""
    return path.with_name(f"{path.name}.unreadable.json")


def trunk_of(how: Extraction) -> Callable[[np.ndarray], torch.Tensor]:
    """A function from (N, 3, h, w) uint8 RGB to pool5, (N, C, h/32, w/32) float32 on the device."""
    trunk = how.net.trunk.eval()
    mean = torch.tensor(how.net.spec.preprocessing.mean, device=how.device).view(1, 3, 1, 1)

    def pool5(images: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(images).to(how.device).float() - mean
        return trunk(pixels.contiguous(memory_format=torch.channels_last))

    return pool5


def pool5_channels(net: VGG) -> int:
    """C of pool5."""
    return thin(WIDTHS[-1], net.spec.width)


def _still_unreadable(
    path: Path, dataset: Dataset, say: Callable[[str], None]
) -> dict[int, str] | None:
    """The unreadable images of cached features; None if there are no features, if they are damaged,
    or if an image can be read by now.
    """
    if not path.is_file():
        return None
    indices = _unreadable_indices(path, len(dataset))
    if indices is None:
        say(computed_again(path))
        return None
    found = {}
    for index in indices:
        try:
            dataset.image(index)
        except InputError as error:
            found[index] = error.what
        else:
            return None
    return found


def computed_again(path: Path) -> str:
    """The line for cached features that are not as they were written."""
    return f"{path}: the cached features are damaged, or of an earlier version; computed again"


def _unreadable_indices(path: Path, images: int) -> list[int] | None:
    """Which images have no features; None if the file is not as it was written.

    Args: path, of the features; images, how many there are.
    """
    try:
        held = json.loads(unreadable_list(path).read_text(encoding="utf-8"))
        indices = held["unreadable"]
        whole = held["sha256"] == sha256(path)
        known = all(type(index) is int and 0 <= index < images for index in indices)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return indices if whole and known else None


@torch.inference_mode()
def _compute(dataset: Dataset, how: Extraction, partial: Path, path: Path) -> dict[int, str]:
    """Write the features. Returns: what is wrong with unreadable images, by index."""
    crop = how.net.spec.crop
    shape = (len(dataset), pool5_channels(how.net), crop // STRIDE, crop // STRIDE)
    announce(dataset, "training", 2 * int(np.prod(shape, dtype=np.int64)), path, how.say)
    pool5 = trunk_of(how)
    features = open_memmap(partial, "w+", np.float16, shape)
    unreadable: dict[int, str] = {}
    on_bad = (
        (lambda index, error: unreadable.update({index: error.what}))
        if how.on_error == "skip"
        else None
    )
    wanted = {Scale(how.side, how.net.spec.preprocessing.filter): np.ones(len(dataset), bool)}
    with progress(f"training features of net {how.net.spec.arch}", len(dataset)) as bar:
        for batch in size_batches(dataset, wanted, BATCH, how.threads, on_bad):
            crops = np.stack(
                [centre_crop(torch.from_numpy(image), crop).numpy() for image in batch.images]
            )
            features[batch.indices] = pool5(crops).half().cpu().numpy()
            bar.advance(len(batch.indices))
    features.flush()
    return unreadable


def announce(
    dataset: Dataset, kind: str, size: int, path: Path, say: Callable[[str], None]
) -> None:
    """Print how large a file of features will be.

    Args: kind, of images; size, bytes. Raises: InputError if the disk has less space.
    """
    say(
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
    features: Features, labels: np.ndarray, config: TrainConfig, begin: int, device: str
) -> Generator[Examples, None, None]:
    """Batches of step `begin` and on, in the same order as the images would come, without the
    unreadable ones.

    Raises: InputError for a batch without a readable image.
    """
    readable = np.ones(len(labels), bool)
    readable[list(features.unreadable)] = False
    for keys in EpochBatches(len(labels), config.batch, config.epochs, config.seed, begin):
        chosen = np.sort([index for _, index in keys])
        rows = np.flatnonzero(readable[chosen])
        if not len(rows):
            raise InputError(f"not one image of a batch of {config.batch} could be read")
        chosen = chosen[rows]
        inputs = torch.from_numpy(features.values[chosen].astype(np.float32)).to(device)
        yield Examples(
            inputs, torch.from_numpy(labels[chosen]).to(device), torch.from_numpy(rows).to(device)
        )


def refuse_unless_given(weights: Path | None) -> None:
    """Features of a random trunk are worth nothing."""
    if weights is None:
        raise InputError(
            "--freeze-features needs trained convolutions; name them with --weights FILE"
        )
