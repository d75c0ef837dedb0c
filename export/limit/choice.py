"""Chooses the layers that stay in float, by trials on the choosing images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from export.limit.attempts import level_of, promises
from export.limit.criterion import Standard
from export.limit.photos import ordered
from export.limit.record import CHOOSING, LimitRecord, tried_row
from export.limit.search import Kept, find_layers
from export.limit.trials import Trials
from export.quantize.convolve import convolutions_of, layers_of, net_input, run_layer
from vgg_deploy.net.model import VGG
from vgg_deploy.progress import clock, progress


@dataclass(frozen=True, eq=False)
class ChoosingImages:
    """The choosing images, in memory.

    Attributes:
        batches: (N, 3, H, W) uint8 RGB.
        indices: Of their images.
        standard: The float32 net's answers.
    """

    batches: list[np.ndarray]
    indices: list[np.ndarray]
    standard: Standard


def choose_layers(
    trials: Trials,
    images: ChoosingImages,
    judging: int,
    record: LimitRecord,
    rank: Callable[[], Sequence[str]],
    log: Callable[[str], None],
) -> Kept:
    """Find layers with which the limit would be shown to be kept.

    Args:
        trials: Of the choosing images.
        images: The same images.
        judging: Number of judging images that can be read.
        record: Gets a row for every trial.
        rank: Gives the layers, the most sensitive first; called only if some have to be kept.
        log: Called with a sentence for each step.

    Returns:
        If no set promises that, all layers but the least sensitive one.
    """
    criterion, name = record.criterion, record.precision
    most = 2 * len(record.order).bit_length() + len(record.order)
    started, done = time.monotonic(), 0

    def passes(kept: Kept) -> bool:
        nonlocal done
        done += 1
        with progress(f"{name}: trial {done}, {len(kept)} layers in float", 1) as bar:
            scores = trials.scores(kept, bar.advance)
        best = ordered(len(images.standard.best), images.indices, [scores.argmax(1)])
        tally = images.standard.tally(best)
        passed = promises(tally, judging, criterion)
        if passed:
            trials.hold()
        high = criterion.evidence(tally.scaled(judging), level_of(0)).high
        row = tried_row(CHOOSING, record.order, kept, tally, high, level_of(0), passed)
        record.trials.append(row)
        if done == 1 and not passed:
            seconds = clock(max(1, time.monotonic() - started))
            log(f"{name}: at most {most} trials follow, each of {seconds} or less")
        return passed

    sizes = {layer: conv.weight.numel() for layer, conv in convolutions_of(trials.net).items()}
    found = find_layers(rank, sizes, passes)
    if not found.passes:
        log(
            f"{name}: no set of layers promises to keep the limit on the choosing images; the one "
            "with a single quantized layer is judged"
        )
    return found.kept


@torch.inference_mode()
def float_answers(net: VGG, batch: np.ndarray) -> np.ndarray:
    """The float32 net's best classes.

    Args:
        net: In evaluation mode.
        batch: (N, 3, H, W) uint8 RGB.

    Returns:
        (N,) int64.
    """
    values = net_input(batch, net.spec)
    for _, layer in layers_of(net):
        values = run_layer(layer, values)
    best: np.ndarray = values.mean((2, 3)).argmax(1).numpy()
    return best
