"""Draws training images beside the views that a net gets of them, to check the pipeline by eye."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from train.feed.augment import RandomView
from train.feed.views import Views
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.shards import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file

EPOCHS = 6  # views of each image
# one per epoch: of the frame in the image and of its mark at the view
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, FAINT = "#333333", "#777777"
# pixels; smaller crops are enlarged by a whole factor, so that each of their pixels stays a square
LEAST_SIDE = 192
MARGIN, GAP, TITLE, CAPTION = 20, 12, 56, 40  # pixels
LINE = 16  # pixels from line to line of a caption
LONGEST_LABEL = 40  # characters
TEXT = ImageFont.load_default(12)
HEADING = ImageFont.load_default(15)


@dataclass(frozen=True)
class Layout:
    """Positions on the sheet, pixels.

    Attributes:
        crop: Side of the training crop.
        rows: Number of images.
    """

    crop: int
    rows: int

    @property
    def unit(self) -> int:
        """Side of a view as shown."""
        return self.crop * max(1, LEAST_SIDE // self.crop)

    @property
    def image_width(self) -> int:
        """Width that is reserved for the image itself."""
        return self.unit * 3 // 2

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        width = 2 * MARGIN + self.image_width + EPOCHS * (self.unit + GAP)
        height = 2 * MARGIN + TITLE + self.rows * self._row_height - GAP
        return width, height

    def left_of(self, epoch: int) -> int:
        """Left edge of the views of an epoch."""
        return MARGIN + self.image_width + GAP + epoch * (self.unit + GAP)

    def top_of(self, row: int) -> int:
        """Upper edge of a row."""
        return MARGIN + TITLE + row * self._row_height

    @property
    def _row_height(self) -> int:
        return self.unit + CAPTION + GAP


def draw_views(views: Views, count: int, path: Path, on_error: str = "stop") -> Path:
    """Draw a row per image: the image with the frames of its crops, then its views.

    The views are those that the training draws in its first epochs. They are shown before the mean
    is subtracted, with their colour shift, limited to 0-255.

    Args:
        views: Of the training images.
        count: Images, spread evenly over the data set.
        path: The PNG file to write.
        on_error: "stop" for an error at an unreadable image, "skip" for the next readable one in
            its place.

    Returns:
        The path.

    Raises:
        InputError: An image is unreadable, or the file cannot be written.
    """
    config, dataset = views.config, views.dataset
    count = min(count, len(dataset))
    layout = Layout(config.crop, count)
    sheet = Image.new("RGB", layout.size, "white")
    pen = ImageDraw.Draw(sheet)
    title = f"Training images and their views: crop {config.crop}, {config.s}, seed {config.seed}"
    pen.text((MARGIN, MARGIN), title, INK, HEADING)
    for epoch in range(EPOCHS):
        corner = (layout.left_of(epoch), MARGIN + TITLE - 20)
        pen.text(corner, f"epoch {epoch + 1}", FAINT, TEXT)
    for row in range(count):
        index = row * len(dataset) // count
        if on_error == "skip":
            index = _readable(dataset, index)
        _draw_row(sheet, layout, row, views, index)
    with whole_file(Path(path)) as partial:
        sheet.save(partial, "PNG")
    return Path(path)


def _draw_row(sheet: Image.Image, layout: Layout, row: int, views: Views, index: int) -> None:
    """One image and its views."""
    dataset, top, unit = views.dataset, layout.top_of(row), layout.unit
    pen = ImageDraw.Draw(sheet)
    image = dataset.decode(index)
    drawn = [_view(views, epoch, index) for epoch in range(EPOCHS)]
    sheet.paste(_framed(image, drawn, layout), (MARGIN, top))
    label = dataset.names[dataset.labels[index]]
    _, height, width = image.shape
    _caption(
        pen,
        (MARGIN, top + unit),
        _shortened(f"{label}: {Path(dataset.files[index]).name}"),
        f"{width} x {height} pixels",
    )
    for epoch, view in enumerate(drawn):
        left = layout.left_of(epoch)
        shown = Image.fromarray(as_shown(view)).resize((unit, unit), Image.Resampling.NEAREST)
        sheet.paste(shown, (left, top))
        pen.rectangle([left, top + unit + 7, left + 8, top + unit + 15], COLOURS[epoch])
        mirrored = "  mirrored" if view.mirrored else ""
        _caption(
            pen,
            (left + 14, top + unit),
            f"S {view.side}  at {view.left}, {view.top}{mirrored}",
            "RGB " + " ".join(f"{value:+.1f}" for value in view.shift),
        )


def as_shown(view: RandomView) -> np.ndarray:
    """The pixels of a view with its colour shift.

    Args:
        view: As the training draws it.

    Returns:
        (crop, crop, 3) uint8 RGB.
    """
    shifted = view.crop.permute(1, 2, 0).numpy() + view.shift
    shown: np.ndarray = np.clip(np.rint(shifted), 0, 255).astype(np.uint8)
    return shown


def _readable(dataset: Dataset, first: int) -> int:
    """The first readable image from an index on; after the last image follow those before it.

    Raises:
        InputError: No image can be read, or the store does not answer.
    """
    for index in chain(range(first, len(dataset)), range(first)):
        try:
            dataset.image(index)
        except Unreachable:
            raise
        except InputError:
            continue
        return index
    raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")


def _view(views: Views, epoch: int, index: int) -> RandomView:
    example = views[epoch, index]
    if isinstance(example, str):  # what is wrong with the image
        raise InputError(example)
    view, _ = example
    return view


def _framed(image: Tensor, drawn: list[RandomView], layout: Layout) -> Image.Image:
    """The image as large as fits, with the part that each view shows."""
    height, width = image.shape[1:]
    scale = min(layout.image_width / width, layout.unit / height)
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (max(1, round(width * scale)), max(1, round(height * scale)))
    )
    pen = ImageDraw.Draw(small)
    for view, colour in zip(drawn, COLOURS, strict=True):
        shrunk = scale * min(height, width) / view.side  # from pixels at S to those of `small`
        left, top = shrunk * view.left, shrunk * view.top
        right, bottom = shrunk * (view.left + layout.crop), shrunk * (view.top + layout.crop)
        pen.rectangle([left, top, right - 1, bottom - 1], outline=colour, width=2)
    return small


def _caption(pen: ImageDraw.ImageDraw, corner: tuple[int, int], first: str, second: str) -> None:
    left, top = corner
    pen.text((left, top + 4), first, INK, TEXT)
    pen.text((left, top + 4 + LINE), second, FAINT, TEXT)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 3]}..."
