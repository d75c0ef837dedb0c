"""Asks all nets about one image, each thing once, and joins their answers for a row."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from bench.localisation.box_nets import BoxNet
from bench.localisation.rows import CENTRE, LocalisationRow
from bench.models.model import Model
from vgg_deploy.boxes.answers import Merging, ScaleView, merged_box
from vgg_deploy.boxes.outputs import boxes_of_class, boxes_of_map
from vgg_deploy.boxes.windows import crop_window, map_windows
from vgg_deploy.images.crops import Crop, centre
from vgg_deploy.predict.views import mirror, softmax

FIRST = 5  # labels that are answered


class Answers(NamedTuple):
    """What a row says about an image.

    Attributes:
        labels: (first,) the best classes of the classifier, the best first.
        boxes: (first, 4) float64, a box for each, pixels of the image.
        of_true_class: (4,) the box of the true class.
    """

    labels: np.ndarray
    boxes: np.ndarray
    of_true_class: np.ndarray


class Nets(NamedTuple):
    """The nets of a run, and how their answers are joined.

    Attributes:
        classifiers: They choose the labels.
        box_nets: They state the boxes.
        box_class: For each classifier, and in it for each box net: (classes,) int64, the box net's
            number of each of the classifier's classes.
        flips: Whether labels are chosen with mirror images too; boxes never are.
        merging: How boxes are merged.
    """

    classifiers: Sequence[Model]
    box_nets: Sequence[BoxNet]
    box_class: Sequence[Sequence[np.ndarray]]
    flips: bool
    merging: Merging


class ImageSeen:
    """One image, as all nets see it."""

    def __init__(self, nets: Nets, images: Mapping[int, np.ndarray], size: tuple[int, int]):
        """Prepare to ask; nothing is run yet.

        Args:
            nets: Of the run.
            images: (3, h, w) uint8 RGB by Q in pixels.
            size: Height and width of the image itself, pixels.
        """
        self.nets, self.images, self.size = nets, images, size
        self.crop = nets.box_nets[0].spec.crop
        self.posteriors = cache(self._posteriors)
        self.map_posteriors = cache(self._map_posteriors)
        self.stated = cache(self._stated)

    def answers(self, row: LocalisationRow, label: int) -> Answers:
        """The answers of a row.

        Args:
            row: Of the table.
            label: The true class, as the row's classifier numbers it.
        """
        cropped = row.protocol == CENTRE
        posteriors = [self.posteriors(row.classifier, side, cropped) for side in row.sides]
        posterior = np.stack(posteriors).mean(axis=0)
        labels = np.argsort(-posterior, kind="stable")[:FIRST]
        box_of = self._crop_box if cropped else self._merged_box
        boxes = {int(one): box_of(row, int(one)) for one in (*labels, label)}
        return Answers(labels, np.stack([boxes[int(one)] for one in labels]), boxes[label])

    def _crop_box(self, row: LocalisationRow, label: int) -> np.ndarray:
        ((number, (side,)),) = row.members
        own = int(self.nets.box_class[row.classifier][number][label])
        box: np.ndarray = boxes_of_class(self.stated(number, side, True), own)[0]
        return box

    def _merged_box(self, row: LocalisationRow, label: int) -> np.ndarray:
        """The best box of a class, from all positions, scales and nets."""
        views = [
            ScaleView(
                self.map_posteriors(row.classifier, side),
                self.stated(number, side, False),
                self.nets.box_class[row.classifier][number],
            )
            for number, sides in row.members
            for side in sides
        ]
        return merged_box(views, label, self.nets.merging)

    def _posteriors(self, classifier: int, side: int, cropped: bool) -> np.ndarray:
        """(classes,) float64 of the whole image, or of its centre crop."""
        runtime = self.nets.classifiers[classifier].runtime
        pixels = self._pixels(side, cropped)
        views = [pixels] if cropped or not self.nets.flips else [pixels, mirror(pixels)]
        posteriors = np.stack([runtime(view).posterior[0] for view in views])
        mean: np.ndarray = posteriors.mean(axis=0, dtype=np.float64)
        return mean

    def _map_posteriors(self, classifier: int, side: int) -> np.ndarray:
        """(classes, positions) softmax at every position of the score map."""
        runtime = self.nets.classifiers[classifier].runtime
        score_map = runtime(self._pixels(side, False)).score_map
        posteriors: np.ndarray = softmax(score_map.astype(np.float64))[0]
        return posteriors.reshape(len(posteriors), -1)

    def _stated(self, number: int, side: int, cropped: bool) -> np.ndarray:
        """(classes, positions, 4) boxes in pixels of the image."""
        net = self.nets.box_nets[number]
        output = net.numbers(self._pixels(side, cropped))[0]
        windows = (
            crop_window(*self.size, side, self._centre(side))[None, None]
            if cropped
            else map_windows(*self.size, side, self.crop)
        )
        return boxes_of_map(output, windows, net.spec.box_form)

    def _pixels(self, side: int, cropped: bool) -> np.ndarray:
        """(1, 3, h, w) uint8."""
        image = self.images[side]
        if cropped:
            top, left, crop = self._centre(side)
            image = image[:, top : top + crop, left : left + crop]
        return np.ascontiguousarray(image[None])

    def _centre(self, side: int) -> Crop:
        _, height, width = self.images[side].shape
        return centre(height, width, self.crop)[0]
