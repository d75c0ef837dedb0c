"""Defines what a net is trained for: the loss of its outputs, and how they are judged."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.ops import box_convert

from train.feed.examples import Examples
from train.recipe.config import TrainConfig
from vgg_deploy.boxes.localisation_error import LEAST_OVERLAP
from vgg_deploy.net.box_outputs import NUMBERS


class Objective(Protocol):
    """Judges the outputs of a net for a batch."""

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """The loss, summed over the images.

        Args:
            outputs: (N, channels) float32.
            examples: The batch.

        Returns:
            A scalar with a gradient.
        """

    def judged(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """The sums of the two numbers of `Measures`, as parts of 1 per image.

        Args:
            outputs: (N, channels) float32 without gradient.
            examples: The batch.

        Returns:
            Two scalars on the device.
        """


class Classification:
    """Softmax cross-entropy; top-1 and top-5 errors (section 3.1)."""

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """As `Objective`."""
        return cross_entropy(outputs, examples.labels, reduction="sum")

    def judged(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """As `Objective`."""
        hits = outputs.topk(min(5, outputs.shape[1])).indices == examples.labels[:, None]
        images = torch.full((), len(hits), dtype=torch.float64, device=outputs.device)
        return images - hits[:, :1].any(1).sum(), images - hits[:, :5].any(1).sum()


class Localisation:
    """Euclidean loss on the box of the true class; wrong boxes and intersections over unions.

    The loss of an image is half the squared distance of its four numbers from the true ones, as in
    Caffe's layer. A net with a box for each class learns that of the true class alone.
    """

    def __init__(self, form: str):
        """Choose what the numbers mean.

        Args:
            form: Name in BOX_FORMS.
        """
        self.form = form

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """As `Objective`."""
        stated, true = _of_true_class(outputs, examples)
        return 0.5 * (stated - true).square().sum()

    def judged(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """As `Objective`."""
        stated, true = (self._edges(numbers) for numbers in _of_true_class(outputs, examples))
        overlaps = _iou(stated, true).double()
        return (overlaps <= LEAST_OVERLAP).double().sum(), overlaps.sum()

    def _edges(self, numbers: Tensor) -> Tensor:
        """(N, 4) left, top, right, bottom, with the window as unit."""
        return box_convert(numbers, "cxcywh", "xyxy") if self.form == "centre" else numbers


def objective_of(config: TrainConfig) -> Objective:
    """What a run trains for."""
    return Localisation(config.box_form) if config.localises else Classification()


def _of_true_class(outputs: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """(N, 4) what the net states for the true class, and what is true."""
    assert examples.boxes is not None  # given to localisers
    boxes = outputs.view(len(outputs), outputs.shape[1] // NUMBERS, NUMBERS)
    classes = examples.labels if boxes.shape[1] > 1 else torch.zeros_like(examples.labels)
    return boxes[torch.arange(len(boxes), device=boxes.device), classes], examples.boxes


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(N,) pair by pair, see `vgg_deploy.boxes.geometry.iou`."""
    low = torch.maximum(boxes[:, :2], others[:, :2])
    high = torch.minimum(boxes[:, 2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    both = sum((each[:, 2:] - each[:, :2]).clamp(min=0).prod(1) for each in (boxes, others))
    union = both - common
    return torch.where(union > 0, common / union, torch.zeros_like(common))
