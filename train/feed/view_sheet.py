"""A picture of training images beside the views that a net gets of them, to check the pipeline by eye."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from train.feed.augment import RandomView
from train.feed.loader import Views
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file

EPOCHS = 6  # views of each image
# one an epoch: of the frame in the image and of its mark at the view
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, FAINT = "#333333", "#777777"
LEAST_SIDE = 192  # pixels; smaller crops are enlarged by a whole factor, so that each of their pixels stays a square of one colour
MARGIN, GAP, TITLE, CAPTION = 20, 12, 56, 40  # pixels
TEXT = ImageFont.load_default(12)
HEADING = ImageFont.load_default(15)


def draw_views(views: Views, count: int, path: Path, on_error: str = "stop") -> Path:
    """A row an image: itself with the frames of its crops, then its views of the first epochs as the training draws them.

    Views are shown before the mean is subtracted, with their colour shift, cut to 0-255.
    Args: count, images, spread evenly over the data set; on_error, "stop" or "skip", then the image after an unreadable one is shown.
    Returns: path, a PNG.
    Raises: InputError for an unreadable image, and where the picture cannot be written.
    """
    config, dataset = views.config, views.dataset
    count = min(count, len(dataset))
    unit = config.crop * max(1, LEAST_SIDE // config.crop)
    wide = unit * 3 // 2  # room for the image itself
    row_height = unit + CAPTION + GAP
    page = Image.new(
        "RGB",
        (2 * MARGIN + wide + EPOCHS * (unit + GAP), 2 * MARGIN + TITLE + count * row_height - GAP),
        "white",
    )
    pen = ImageDraw.Draw(page)
    pen.text(
        (MARGIN, MARGIN),
        f"Training images and their views: crop {config.crop}, {config.s}, seed {config.seed}",
        INK,
        HEADING,
    )
    for epoch in range(EPOCHS):
        pen.text(
            (MARGIN + wide + GAP + epoch * (unit + GAP), MARGIN + TITLE - 20),
            f"epoch {epoch + 1}",
            FAINT,
            TEXT,
        )
    for row, place in enumerate((np.arange(count) * len(dataset) // count).tolist()):
        y = MARGIN + TITLE + row * row_height
        index = _readable(dataset, place) if on_error == "skip" else place
        image, drawn = (
            dataset.decode(index),
            [_view(views, epoch, index) for epoch in range(EPOCHS)],
        )
        page.paste(_framed(image, drawn, config.crop, (wide, unit)), (MARGIN, y))
        label = dataset.names[dataset.labels[index]]
        _caption(
            pen,
            (MARGIN, y + unit),
            [
                _short(f"{label}: {Path(dataset.files[index]).name}"),
                f"{image.shape[2]} x {image.shape[1]} pixels",
            ],
        )
        for epoch, view in enumerate(drawn):
            x = MARGIN + wide + GAP + epoch * (unit + GAP)
            page.paste(
                Image.fromarray(as_shown(view)).resize((unit, unit), Image.Resampling.NEAREST),
                (x, y),
            )
            pen.rectangle([x, y + unit + 7, x + 8, y + unit + 15], COLOURS[epoch])
            _caption(
                pen,
                (x + 14, y + unit),
                [
                    f"S {view.side}  at {view.left}, {view.top}{'  mirrored' if view.mirrored else ''}",
                    _shift(view),
                ],
            )
    with whole_file(Path(path)) as partial:
        page.save(partial, "PNG")
    return Path(path)


def as_shown(view: RandomView) -> np.ndarray:
    """(crop, crop, 3) uint8: the view with its colour shift."""
    shifted = view.crop.permute(1, 2, 0).numpy() + view.shift
    return np.clip(np.rint(shifted), 0, 255).astype(np.uint8)


def _readable(dataset: Dataset, place: int) -> int:
    """The first image from a place on, and from the first one on, that can be decoded."""
    for index in (*range(place, len(dataset)), *range(place)):
        try:
            dataset.image(index)
        except Unreachable:
            raise
        except InputError:
            continue
        return index
    raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")


def _view(views: Views, epoch: int, index: int) -> RandomView:
    found = views[epoch, index]
    if isinstance(found, str):  # what is wrong with the image
        raise InputError(found)
    return found[0]


def _framed(
    image: Tensor, drawn: list[RandomView], crop: int, room: tuple[int, int]
) -> Image.Image:
    """The image as large as fits, with the part that each view shows."""
    height, width = image.shape[1:]
    scale = min(room[0] / width, room[1] / height)
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (max(1, round(width * scale)), max(1, round(height * scale)))
    )
    pen = ImageDraw.Draw(small)
    for view, colour in zip(drawn, COLOURS, strict=True):
        shrunk = scale * min(height, width) / view.side  # from pixels at S to those here
        left, top, right, bottom = (
            shrunk * edge for edge in (view.left, view.top, view.left + crop, view.top + crop)
        )
        pen.rectangle([left, top, right - 1, bottom - 1], outline=colour, width=2)
    return small


def _caption(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[str]) -> None:
    for i, (line, colour) in enumerate(zip(lines, (INK, FAINT), strict=True)):
        pen.text((corner[0], corner[1] + 4 + 16 * i), line, colour, TEXT)


def _shift(view: RandomView) -> str:
    return "RGB " + " ".join(f"{value:+.1f}" for value in view.shift)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
