"""Draws where a localiser sees the best classes of each image, and lists the boxes."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.localisation.box_nets import BoxNet
from bench.predict.map_files import CAPTION, INK, PAPER, picture_path
from vgg_deploy.boxes.answers import Merging, ScaleView, merged_box
from vgg_deploy.boxes.geometry import clipped, scaled
from vgg_deploy.boxes.outputs import boxes_of_map
from vgg_deploy.boxes.windows import map_windows
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.images.decode import image_size
from vgg_deploy.palette import COLOURS
from vgg_deploy.predict.model import Model
from vgg_deploy.predict.predictions import COLUMNS, Prediction
from vgg_deploy.predict.stream import Pixels
from vgg_deploy.predict.views import softmax
from vgg_deploy.printable import csv_text

TABLE = "boxes.csv"
EDGES = ("left_px", "top_px", "right_px", "bottom_px")
LEAST_POSTERIOR = 0.1  # of a class whose box is drawn beside the best one's
FONT = 12


class BoxFiles:
    """Draws the boxes of one image after another."""

    def __init__(self, folder: Path, model: Model, box_net: BoxNet, file: IO[str]):
        """Begin the table.

        Args:
            folder: Of the pictures.
            model: Chooses the labels.
            box_net: States the boxes; of the same classes and input.
            file: The table.

        Raises:
            InputError: If the two nets do not fit together.
        """
        self.folder, self.model, self.box_net = folder, model, box_net
        self.numbers = _numbers_of_classes(model, box_net)
        self.rows = csv.writer(file, lineterminator="\n")
        self.rows.writerow(["image", *COLUMNS, *EDGES])

    def save(self, number: int, one: Prediction, image: Pixels, data: bytes) -> None:
        """Merge the boxes of each listed class over positions and scales, draw and list them.

        Args:
            number: Of the image.
            one: Its best classes.
            image: At every Q, (3, h, w) uint8 RGB.
            data: The image as it is stored, for its size.

        Raises:
            InputError: If a file cannot be written.
            CheckFailed: If a box is not finite.
        """
        height, width = image_size(BytesIO(data), one.image)
        views = [self._view(pixels, side, (height, width)) for side, pixels in image.items()]
        frame = np.array([0, 0, width, height], np.float64)
        boxes = []
        for ranked in one.best:
            label = self.model.classes.index(ranked.id)
            box = clipped(merged_box(views, label, Merging()), frame)
            boxes.append(box)
            edges = [f"{edge:.2f}" for edge in box]
            texts = (csv_text(ranked.id), csv_text(ranked.name), f"{ranked.posterior:.10g}")
            self.rows.writerow([csv_text(one.image), ranked.rank, *texts, *edges])
        largest = image[max(image)]
        shown = scaled(np.stack(boxes), (height, width), largest.shape[1:])
        path = picture_path(self.folder, number, one.image)
        with whole_file(path) as partial:
            _drawn(largest, one, shown).save(partial, "PNG")

    def _view(self, pixels: np.ndarray, side: int, size: tuple[int, int]) -> ScaleView:
        """What both nets say about the image at one scale."""
        score_map = self.model.runtime(pixels[None]).score_map
        posteriors = softmax(score_map.astype(np.float64))[0]
        windows = map_windows(*size, side, self.box_net.spec.crop)
        output = self.box_net.numbers(pixels[None])[0]
        stated = boxes_of_map(output, windows, self.box_net.spec.box_form)
        return ScaleView(posteriors.reshape(len(posteriors), -1), stated, self.numbers)


@contextmanager
def box_files(folder: Path, model: Model, box_net: BoxNet) -> Iterator[BoxFiles]:
    """Open the folder; boxes.csv appears in it when the block has ended.

    Args:
        folder: Of the pictures and the table.
        model: Chooses the labels.
        box_net: States the boxes.

    Raises:
        InputError: If the nets do not fit together, or a file cannot be written.
    """
    with (
        whole_file(folder / TABLE) as partial,
        open(partial, "w", encoding="utf-8", newline="") as file,
    ):
        yield BoxFiles(folder, model, box_net, file)


def _numbers_of_classes(model: Model, box_net: BoxNet) -> np.ndarray:
    """(classes,) the box net's number of each of the model's classes."""
    own, other = model.spec, box_net.spec
    if (own.crop, own.preprocessing.filter) != (other.crop, other.preprocessing.filter):
        raise InputError(
            f"{box_net.path}: has a crop of {other.crop} and the filter "
            f"{other.preprocessing.filter}, {model.path} has {own.crop} and "
            f"{own.preprocessing.filter}; windows of both must be the same"
        )
    number_of = {id: number for number, id in enumerate(other.classes)}
    if set(number_of) != set(own.classes):
        raise InputError(
            f"{box_net.path}: states boxes of other classes than {model.path} scores; both must "
            "be trained on the same classes"
        )
    return np.array([number_of[id] for id in own.classes], np.int64)


def _drawn(pixels: np.ndarray, one: Prediction, boxes: np.ndarray) -> Image.Image:
    """The image with the boxes of its best classes, and their names above it.

    Args:
        pixels: (3, h, w) uint8 RGB.
        one: The best classes.
        boxes: (classes, 4) in these pixels.
    """
    shown = [i for i, r in enumerate(one.best) if i == 0 or r.posterior >= LEAST_POSTERIOR]
    shown = shown[: len(COLOURS)]
    font = ImageFont.load_default(size=FONT)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    draw = ImageDraw.Draw(picture)
    for i in reversed(shown):  # the best last, on top
        left, top, right, bottom = boxes[i].tolist()
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, COLOURS[i], 3)
    head = CAPTION // 2 * len(shown)
    page = Image.new("RGB", (picture.width, picture.height + head), PAPER)
    page.paste(picture, (0, head))
    draw = ImageDraw.Draw(page)
    for line, i in enumerate(shown):
        y = line * (CAPTION // 2) + 1
        draw.rectangle((2, y + 2, 11, y + 11), COLOURS[i])
        text = f"{one.best[i].name}  {100 * one.best[i].posterior:.1f} %"
        draw.text((16, y), text, fill=INK, font=font)
    return page
