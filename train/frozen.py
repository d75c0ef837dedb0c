"""Training fc6-fc8 alone on features of a fixed trunk, computed once and kept on disk."""

import hashlib
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from train.augment import centre_crop
from train.config import TrainConfig
from train.loader import EpochBatches
from train.loop import Errors, Validate
from train.signals import Signals
from train.update import Examples
from vgg_deploy.archs import STRIDE
from vgg_deploy.batches import size_batches
from vgg_deploy.cache import cache_folder
from vgg_deploy.data import Dataset
from vgg_deploy.decoding import Scale
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.model import VGG
from vgg_deploy.progress import progress


def pool5_features(net: VGG, dataset: Dataset, side: int, device: str, threads: int, split: str) -> np.ndarray:
    """pool5 of every image's centre crop at S = side: (N, C, crop/32, crop/32) float16, mapped from disk.

    The file is kept in the cache folder and used again for the same trunk, images and sizes.
    Raises: InputError for the first unreadable image.
    """
    key = hashlib.sha256(f"{dataset.fingerprint()} {side} {net.spec.crop} {net.spec.preprocessing}".encode())
    for tensor in net.trunk.state_dict().values():
        key.update(tensor.cpu().contiguous().numpy().data)
    path = cache_folder() / "features" / f"{net.spec.arch}-{split}-{key.hexdigest()[:24]}.npy"
    if not path.is_file():
        with whole_file(path) as partial:
            _compute(net, dataset, side, device, threads, split, partial)
    return np.load(path, mmap_mode="r")


@torch.inference_mode()
def _compute(net: VGG, dataset: Dataset, side: int, device: str, threads: int, split: str, path: Path) -> None:
    trunk = net.trunk.eval()
    crop, pre = net.spec.crop, net.spec.preprocessing
    mean = torch.tensor(pre.mean, device=device).view(1, 3, 1, 1)
    channels = [m for m in trunk if hasattr(m, "out_channels")][-1].out_channels
    features = open_memmap(path, "w+", np.float16, (len(dataset), channels, crop // STRIDE, crop // STRIDE))
    with progress(f"{split} features of net {net.spec.arch}", len(dataset)) as bar:
        for batch in size_batches(dataset, {Scale(side, pre.filter): np.ones(len(dataset), bool)}, 16, threads):
            crops = torch.stack([centre_crop(torch.from_numpy(image), crop) for image in batch.images])
            pixels = (crops.to(device).float() - mean).contiguous(memory_format=torch.channels_last)
            features[batch.indices] = trunk(pixels).half().cpu().numpy()
            bar.advance(len(batch.indices))
    features.flush()


def feature_batches(features: np.ndarray, labels: np.ndarray, config: TrainConfig, begin: int, device: str) -> Generator[Examples, None, None]:
    """Batches of step `begin` and on, in the same order as the images would come."""
    for keys in EpochBatches(len(labels), config.batch, config.epochs, config.seed, begin):
        chosen = np.sort([index for _, index in keys])
        inputs = torch.from_numpy(features[chosen].astype(np.float32)).to(device)
        yield Examples(inputs, torch.from_numpy(labels[chosen]).to(device), torch.arange(len(chosen), device=device))


def feature_validation(net: VGG, features: np.ndarray, labels: np.ndarray, device: str) -> Validate:
    """A function that gives the head's present errors on centre crops."""

    @torch.inference_mode()
    def validate(signals: Signals) -> Errors | None:
        head = net.head.eval()
        wrong = np.zeros(2)
        for first in range(0, len(labels), 256):
            inputs = torch.from_numpy(features[first : first + 256].astype(np.float32)).to(device)
            logits = head(inputs).flatten(1)
            best = logits.topk(min(5, logits.shape[1])).indices.cpu().numpy() == labels[first : first + 256, None]
            wrong += [(~best[:, :k].any(1)).sum() for k in (1, 5)]
        return Errors(*(100 * wrong / len(labels)).tolist())

    return validate


def refuse_unless_given(weights: Path | None) -> None:
    """Features of a random trunk are worth nothing."""
    if weights is None:
        raise InputError("--freeze-features needs trained convolutions; name them with --weights FILE")
