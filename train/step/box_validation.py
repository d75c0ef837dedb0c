"""Validates a localiser while it trains: the centre crop, the box of the true class (Table 8)."""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from train.feed.box_targets import centre_place
from train.step.loop import Validate
from train.step.trainee import shaped
from train.step.validation import Counts, image_validation
from vgg_deploy.boxes.forms import read_boxes, state_boxes
from vgg_deploy.boxes.localisation_error import LEAST_OVERLAP, best_overlap
from vgg_deploy.boxes.windows import crop_window
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.image_sizes import image_sizes
from vgg_deploy.data.patience import SECONDS
from vgg_deploy.images.crops import Crop, centre
from vgg_deploy.job import Job
from vgg_deploy.net.box_outputs import NUMBERS
from vgg_deploy.net.model import VGG

UNIT_WINDOW = np.array([-0.5, -0.5, 0.5, 0.5])  # what `state_boxes` makes of the window itself


def box_validation(
    net: VGG,
    precision: str,
    dataset: Dataset,
    threads: int,
    on_error: str,
    job: Job,
    log: Callable[[str], None],
    patience: float = SECONDS,
) -> Validate:
    """Prepare the validation of a localiser; each process judges its share of the images.

    A box is right if it overlaps any of the image's boxes by more than half. Boxes are compared
    with the window as unit, where overlaps are the same as in pixels.

    Args:
        net: In training, on its device.
        precision: That of the updates.
        dataset: Validation images with boxes.
        threads: Processes that decode.
        on_error: "stop" or "skip" for unreadable images.
        job: The processes that train together.
        log: Prints a line; each unreadable image is named once.
        patience: Longest wait for a decoding process, seconds.

    Returns:
        As `dense_validation`; the errors are the localisation error and the mean overlap.
    """
    spec = net.spec
    true_boxes = relative_boxes(dataset, spec.test_side, spec.crop)

    def count(images: Tensor, indices: np.ndarray) -> Counts:
        ((top, left, side),) = centre(images.shape[2], images.shape[3], spec.crop)
        crops = images[:, :, top : top + side, left : left + side]
        outputs = net(shaped(crops, precision)).float().flatten(1).cpu().numpy()
        labels = dataset.labels[indices]
        return judged(outputs, labels, [true_boxes[index] for index in indices], spec.box_form)

    return image_validation(net, precision, dataset, threads, on_error, job, log, patience, count)


def judged(
    outputs: np.ndarray, labels: np.ndarray, true_boxes: list[np.ndarray], form: str
) -> Counts:
    """Count wrong boxes, and add the overlaps up.

    Args:
        outputs: (N, channels) of a localiser at the centre crops.
        labels: (N,) true classes.
        true_boxes: Of each image, (boxes, 4) as `relative_boxes`.
        form: Name in BOX_FORMS.

    Returns:
        NaN for outputs that are not finite.
    """
    if not np.isfinite(outputs).all():
        return Counts(len(labels), math.nan, math.nan)
    numbers = outputs.reshape(len(outputs), -1, NUMBERS)
    classes = labels if numbers.shape[1] > 1 else np.zeros_like(labels)
    stated = read_boxes(numbers[np.arange(len(numbers)), classes], UNIT_WINDOW, form)
    overlaps = np.array(
        [best_overlap(box, true) for box, true in zip(stated, true_boxes, strict=True)]
    )
    return Counts(len(labels), int((overlaps <= LEAST_OVERLAP).sum()), float(overlaps.sum()))


def relative_boxes(dataset: Dataset, side: int, crop: int) -> list[np.ndarray]:
    """The boxes of every image with its centre crop as unit, the middle of the crop at 0.

    Args:
        dataset: With boxes.
        side: Q, pixels.
        crop: Side of the crop, pixels.

    Returns:
        (boxes, 4) float64 edges per image; none for an image whose size cannot be read.
    """
    assert dataset.boxes is not None
    boxes = []
    for index, size in enumerate(image_sizes(dataset)):
        if size is None:
            boxes.append(np.zeros((0, NUMBERS)))
            continue
        place = centre_place(size, side, crop)
        window = crop_window(*size, side, Crop(place.top, place.left, crop))
        boxes.append(state_boxes(dataset.boxes[index], window, "edges"))
    return boxes
