"""A net with a layer that 8 bits ruin, and photos in folders by what the net answers."""

from pathlib import Path

import numpy as np
import torch

from tests.support.nets import CLASSES, photo_of, thin_net
from vgg_deploy.net.model import VGG

READERS = {"conv3_1": "conv3_2", "conv4_1": "conv4_2", "fc6": "fc7"}  # who reads a layer's output
SIDE = 48  # pixels of the photos, the test scale of a thin net: no pixel is resampled


def plant_outlier(net: VGG, layer: str, factor: float = 300.0) -> str:
    """Make one channel far larger than the others; the net computes the same as before.

    ReLU lets a positive factor pass, so the next layer's weights take it back.

    Returns:
        The layer that 8 bits ruin: the one that reads the channel.
    """
    reader = READERS[layer]
    first, second = net.get_submodule(layer), net.get_submodule(reader)
    with torch.no_grad():
        first.weight[0] *= factor
        first.bias[0] *= factor
        second.weight[:, 0] /= factor
    return reader


@torch.inference_mode()
def scores_of(net: VGG, pixels: np.ndarray) -> torch.Tensor:
    """(N, classes) mean scores of (N, 3, H, W) uint8."""
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    values = torch.from_numpy(pixels).float() - mean
    for layer in net.children():
        values = layer(values)
    return values.mean((2, 3))


def net_and_photos(folder: Path, count: int, planted: str | None = None, seed: int = 0) -> VGG:
    """A random net, and photos in FOLDER/CLASS by its own answers: it makes no mistake on them.

    Its biases are such that all classes are answered.

    Args:
        folder: Of the photos.
        count: Of photos.
        planted: The layer that gets an outlier.
        seed: Of net and photos.
    """
    net, rng = thin_net("A", seed), np.random.default_rng(seed)
    images = [photo_of(CLASSES[i % 4], rng).resize((SIDE, SIDE)) for i in range(count)]
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    with torch.no_grad():
        scores = scores_of(net, pixels)
        net.fc8.weight /= scores.std(0).view(-1, 1, 1, 1)
        net.fc8.bias.zero_()
        net.fc8.bias -= scores_of(net, pixels).mean(0)
    if planted:
        plant_outlier(net, planted)
    best = scores_of(net, pixels).argmax(1)
    for i, (image, label) in enumerate(zip(images, best, strict=True)):
        target = folder / CLASSES[int(label)]
        target.mkdir(parents=True, exist_ok=True)
        image.save(target / f"{i:04d}.png")
    return net
