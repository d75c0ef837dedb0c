"""Computes the posteriors of images by the paper's ways of plan, in memory (section 3.2)."""

from collections.abc import Mapping

import numpy as np

from vgg_deploy.images.crops import VIEW_SETS, cut
from vgg_deploy.images.protocols import DENSE_SOFTMAX_FIRST, PROTOCOLS, WHOLE_IMAGE
from vgg_deploy.predict.whole_images import rescales
from vgg_deploy.runtimes.contract import Runtime


def protocol_posteriors(
    runtime: Runtime, images: Mapping[int, np.ndarray], protocol: str, flips: bool, batch: int
) -> np.ndarray:
    """Average the posteriors of a protocol with equal weight over views, scales and flips.

    Args:
        runtime: The net.
        images: By Q in pixels, (N, 3, h, w) uint8 RGB with min(h, w) == Q.
        protocol: Name in PROTOCOLS.
        flips: Whether mirror images are averaged too, where the protocol leaves that open.
        batch: Most views per call of the net.

    Returns:
        (N, classes) float64.
    """
    turned = (False, True) if PROTOCOLS[protocol].rows_of_flips(flips)[-1] else (False,)
    posteriors = [
        view_posteriors(runtime, pixels, views, mirrored, batch)
        for views in PROTOCOLS[protocol].view_sets
        for pixels in images.values()
        for mirrored in turned
    ]
    mean: np.ndarray = np.mean(posteriors, axis=0)
    return mean


def view_posteriors(
    runtime: Runtime, images: np.ndarray, views: str, mirrored: bool, batch: int
) -> np.ndarray:
    """Average the posteriors of one set of views.

    Args:
        runtime: The net.
        images: (N, 3, h, w) uint8 RGB; not rescaled for a file that does that by itself.
        views: Of WHOLE_IMAGE, or a name in VIEW_SETS.
        mirrored: Whether each view is flipped; crops are flipped after they are cut.
        batch: Most views per call of the net.

    Returns:
        (N, classes) float64.
    """
    if views in WHOLE_IMAGE or rescales(runtime):
        pixels, per_image = images, 1
    else:
        height, width = images.shape[2:]
        spec = runtime.spec
        crops = VIEW_SETS[views](height, width, spec.crop)
        pixels = cut(images, crops, spec.crop, spec.preprocessing.filter)
        per_image = len(crops)
    parts = []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch]
        scores = runtime(mirror(part) if mirrored else np.ascontiguousarray(part))
        if views == DENSE_SOFTMAX_FIRST:
            parts.append(softmax(scores.score_map).mean(axis=(2, 3)))
        else:
            parts.append(scores.posterior)
    by_image = np.concatenate(parts).reshape(len(images), per_image, -1)
    mean: np.ndarray = by_image.mean(axis=1, dtype=np.float64)
    return mean


def mirror(images: np.ndarray) -> np.ndarray:
    """(N, 3, h, w) -> the same images, flipped from left to right."""
    return np.ascontiguousarray(images[..., ::-1])


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over axis 1. NaN and infinite scores give NaN, which is reported as such."""
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        quotients: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
        return quotients
