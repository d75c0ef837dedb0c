"""Draws what dense evaluation is made of: the class score map laid over an image, at every Q."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.cell_store import StoredCell
from bench.accuracy.dense_maps import DensePass
from bench.accuracy.measure import Accuracy
from bench.accuracy.protocols import Cell
from bench.models.model import Model
from bench.report.drawing import Drawing
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.images.encoded import resized
from vgg_deploy.images.protocols import DENSE
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.predict.views import softmax
from vgg_deploy.predict.whole_images import rescales

MISTAKES, RIGHT = 3, 3  # images shown, if there are so many
SHOWN_SIDE = 256  # pixels of the image in the report
BEST = 5  # classes listed per Q
MAP_HEIGHT = 250  # pixels, at most
AROUND_MAPS = 72  # pixels of a figure above and below its maps: titles and colour scale

RankedClass = tuple[str, float, bool]  # name, posterior, whether it is the true class


@dataclass(frozen=True)
class ImageMaps:
    """One image of the report.

    Attributes:
        file: Name of the image.
        label: Name of the true class.
        best: Name of the best class, as in the row of the table.
        right: Whether the two are the same.
        drawings: The score maps, of the best class and then of the true one.
        top5: Q, and the best classes of one dense pass.
    """

    file: str
    label: str
    best: str
    right: bool
    drawings: list[Drawing]
    top5: list[tuple[int, list[RankedClass]]]


class _Pass(NamedTuple):
    """One dense pass of one image at one Q."""

    side: int  # Q, pixels
    height: int  # of the rescaled image, pixels
    width: int
    posterior: np.ndarray  # (classes,) float32
    score_map: np.ndarray  # (classes, h, w) float32
    posterior_map: np.ndarray  # (classes, h, w), softmax at every position


class _Image(NamedTuple):
    """An image that is shown."""

    name: str
    image: Image.Image


def choose(scored: Scored) -> np.ndarray:
    """Choose a few images: the most confident mistakes, and right answers from sure to doubtful.

    Args:
        scored: A row with labels.

    Returns:
        (count,) int, indices of images of the row.
    """
    surest_first = np.argsort(-scored.confidence, kind="stable")
    is_wrong = scored.ranks[surest_first] > 0
    wrong, right = surest_first[is_wrong], surest_first[~is_wrong]
    if len(right) >= RIGHT:
        right = right[np.linspace(0, len(right) - 1, RIGHT).round().astype(int)]
    return np.concatenate([wrong[:MISTAKES], right])


def image_maps(
    models: list[Model],
    scored: Scored,
    dataset: Dataset,
    accuracy: Accuracy,
) -> list[ImageMaps]:
    """Draw the score maps of a few images by the row's first net.

    They are those of scoring where they are known; else the net sees the image once more.

    Args:
        models: All models of the run.
        scored: A row with labels.
        dataset: The images.
        accuracy: What is known of the images and the rows.
    """
    chosen, member = choose(scored).tolist(), scored.row.members[0]
    positions = [int(accuracy.positions[i]) for i in chosen]
    images = [dataset.image(position) for position in positions]
    passes_at = {}
    for side in member.sides:
        cell = accuracy.measured.cells.get(Cell(member.model, side, DENSE, False))
        passes_at[side] = _dense_passes(models[member.model], positions, images, side, cell)
    return [
        _maps_of(
            models,
            scored,
            index,
            _Image(dataset.files[position], image),
            {side: passes[position] for side, passes in passes_at.items()},
            accuracy.classes,
        )
        for index, position, image in zip(chosen, positions, images, strict=True)
    ]


def _maps_of(
    models: list[Model],
    scored: Scored,
    index: int,
    shown: _Image,
    passes_at: Mapping[int, DensePass],
    classes: ClassIndex,
) -> ImageMaps:
    """Draw an image, the row's one of this index, from its dense pass at every Q."""
    member = scored.row.members[0]
    model, of_model = models[member.model], classes.of_model[member.model]
    names = [classes.label(c) for c in of_model]
    output_of = {c: output for output, c in enumerate(of_model)}  # a class's index in the scores
    label, best = output_of[scored.labels[index]], output_of[scored.best[index]]
    image, filter = shown.image, model.runtime.spec.preprocessing.filter
    passes = [_pass_at(image, side, filter, one) for side, one in passes_at.items()]
    source = _data_url(resized(image, min(SHOWN_SIDE, *image.size), filter))
    drawn = [best] if label == best else [best, label]
    crop = model.runtime.spec.crop
    return ImageMaps(
        file=shown.name,
        label=names[label],
        best=names[best],
        right=bool(scored.ranks[index] == 0),
        drawings=[_drawing(index, c, names[c], passes, source, crop) for c in drawn],
        top5=[(one.side, _ranked(one.posterior, names, label)) for one in passes],
    )


def _dense_passes(
    model: Model,
    positions: list[int],
    images: list[Image.Image],
    side: int,
    cell: StoredCell | None,
) -> dict[int, DensePass]:
    """The dense pass of images by their indices in the data set; the cell keeps them, if any."""
    known = cell.maps.known(positions) if cell else {}
    passes = {
        position: known[position] if position in known else _dense_pass(model, image, side)
        for position, image in zip(positions, images, strict=True)
    }
    if cell and passes:
        cell.maps.store(passes)
    return passes


def _dense_pass(model: Model, image: Image.Image, side: int) -> DensePass:
    small = resized(image, side, model.runtime.spec.preprocessing.filter)
    given = image if rescales(model.runtime) else small
    pixels = np.asarray(given).transpose(2, 0, 1)
    scores = model.runtime(np.ascontiguousarray(pixels[None]))
    return DensePass(scores.posterior[0], scores.score_map[0])


def _pass_at(image: Image.Image, side: int, filter: str, one: DensePass) -> _Pass:
    width, height = resized(image, side, filter).size
    posterior_map = softmax(one.score_map[None])[0]
    return _Pass(side, height, width, one.posterior, one.score_map, posterior_map)


def _ranked(posterior: np.ndarray, names: list[str], label: int) -> list[RankedClass]:
    """The best classes, the best first."""
    best_first = np.argsort(-posterior, kind="stable")[:BEST]
    return [(names[c], float(posterior[c]), bool(c == label)) for c in best_first]


def _drawing(
    number: int, output: int, name: str, passes: list[_Pass], source: str, crop: int
) -> Drawing:
    """The maps of one class, one column per Q, on a scale of their own that starts at 0.

    A class's posterior may be 0.9 or, among a thousand classes, 0.001: on a common scale most maps
    would be of one colour.
    """
    titles = [f"Q {one.side}" for one in passes]
    figure = make_subplots(rows=1, cols=len(passes), subplot_titles=titles, horizontal_spacing=0.02)
    for column, one in enumerate(passes, start=1):
        _overlay(figure, column, source, one, output, crop)
    largest = max(float(one.posterior_map[output].max()) for one in passes)
    tallest = max(one.height / one.width for one in passes)
    figure.update_layout(
        template="none",
        height=MAP_HEIGHT + AROUND_MAPS,
        margin={"l": 4, "r": 4, "t": 24, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        coloraxis={
            "colorscale": "Viridis",
            "cmin": 0,
            "cmax": largest or 1,  # a posterior may underflow to 0 everywhere
            "colorbar": {
                "orientation": "h",
                "thickness": 10,
                "len": 0.6,
                "y": 0,
                "yanchor": "top",
                "nticks": 5,
                "tickformat": ".2~g",
            },
        },
        # read by page.js, which fits the height to the width of the page
        meta={"columns": len(passes), "aspect": tallest, "most": MAP_HEIGHT, "around": AROUND_MAPS},
    )
    return Drawing(f"map-{number}-{output}", f"Posterior of {name}", figure)


def _overlay(
    figure: go.Figure, column: int, source: str, one: _Pass, output: int, crop: int
) -> None:
    """Lay the map of one class over the image, in pixels of the rescaled image.

    Each position of the map lies in the middle of the window that it sees.
    """
    where = {"row": 1, "col": column}
    figure.add_layout_image(
        source=source,
        x=0,
        y=0,
        sizex=one.width,
        sizey=one.height,
        xanchor="left",
        yanchor="top",
        sizing="stretch",
        layer="below",
        **where,
    )
    figure.add_heatmap(
        z=_significant(one.posterior_map[output]),
        x0=crop / 2,
        dx=STRIDE,
        y0=crop / 2,
        dy=STRIDE,
        coloraxis="coloraxis",
        opacity=0.55,
        customdata=one.score_map[output].round(2),
        hovertemplate="window centred on %{x:.0f}, %{y:.0f}: posterior %{z:.3g}, score "
        "%{customdata}<extra></extra>",
        **where,
    )
    figure.update_xaxes(range=[0, one.width], visible=False, constrain="domain", **where)
    x_axis = figure.get_subplot(1, column).xaxis.plotly_name.replace("axis", "")
    figure.update_yaxes(
        range=[one.height, 0], visible=False, scaleanchor=x_axis, constrain="domain", **where
    )


def _significant(values: np.ndarray) -> list[list[float]]:
    """Values with three significant digits, which keep the page small."""
    return [[float(f"{value:.3g}") for value in line] for line in values]


def _data_url(image: Image.Image) -> str:
    """An RGB image as a JPEG that can stand in the page itself."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
