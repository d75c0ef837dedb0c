"""Chooses the box that a localiser should state of a view, and writes it as the net should say it.

An image may show several objects of its class, and a view a part of them. The box with the largest
part in the view is the one; if no box has any part there, the largest of the image. It is stated
whole, also where it leaves the view.
"""

from typing import NamedTuple

import numpy as np

from vgg_deploy.boxes.forms import state_boxes
from vgg_deploy.boxes.geometry import areas, clipped, mirrored, scaled
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.image_sizes import image_sizes
from vgg_deploy.images.crops import centre
from vgg_deploy.images.geometry import rescaled_size


class Place(NamedTuple):
    """Which part of an image a view shows.

    Attributes:
        side: S, pixels.
        top: First row of the crop in the image at S.
        left: First column.
        crop: Side of the crop, pixels.
        mirrored: Whether it is flipped horizontally.
    """

    side: int
    top: int
    left: int
    crop: int
    mirrored: bool = False


def box_target(boxes: np.ndarray, size: tuple[int, int], place: Place, form: str) -> np.ndarray:
    """What a localiser should say of a view.

    Args:
        boxes: (boxes, 4) of the image's class, one or more, pixels of the image.
        size: Height and width of the image, pixels.
        place: Of the view.
        form: Name in BOX_FORMS.

    Returns:
        (4,) float32.
    """
    at_s = scaled(boxes, size, rescaled_size(*size, place.side))
    window = np.array(
        [place.left, place.top, place.left + place.crop, place.top + place.crop], np.float64
    )
    visible = areas(clipped(at_s, window))
    chosen = at_s[int((visible if visible.any() else areas(at_s)).argmax())]
    if place.mirrored:
        chosen = mirrored(chosen, 2 * place.left + place.crop)
    return state_boxes(chosen, window, form).astype(np.float32)


def centre_place(size: tuple[int, int], side: int, crop: int) -> Place:
    """The centre crop of an image.

    Args:
        size: Height and width of the image, pixels.
        side: S or Q, pixels.
        crop: Side of the crop, pixels.
    """
    (middle,) = centre(*rescaled_size(*size, side), crop)
    return Place(side, middle.top, middle.left, crop)


def centre_targets(dataset: Dataset, side: int, crop: int, form: str) -> np.ndarray:
    """What a localiser should say of the centre crops of a data set.

    Args:
        dataset: With boxes.
        side: S, pixels.
        crop: Side of the crop, pixels.
        form: Name in BOX_FORMS.

    Returns:
        (images, 4) float32; zeros for an image whose size cannot be read.
    """
    assert dataset.boxes is not None
    targets = np.zeros((len(dataset), 4), np.float32)
    for index, size in enumerate(image_sizes(dataset)):
        if size is not None:
            place = centre_place(size, side, crop)
            targets[index] = box_target(dataset.boxes[index], size, place, form)
    return targets
