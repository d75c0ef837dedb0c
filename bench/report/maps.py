"""What dense evaluation is made of: the class score map laid over a photo, at every Q."""

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.score_views import softmax
from bench.models.model import Model
from bench.report.drawing import Drawing
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.images.decode import rescale
from vgg_deploy.net.archs import STRIDE

MISTAKES, RIGHT = 3, 3  # photos shown, where there are so many
SHOWN_SIDE = 256  # pixels of the photo in the report


@dataclass(frozen=True)
class Photo:
    """One image of the report."""

    file: str
    label: str  # name of the true class
    best: str  # of the best class, as the row of the table says
    right: bool
    drawing: Drawing
    top5: list[
        tuple[int, list[tuple[str, float, bool]]]
    ]  # Q, (class, posterior, is it the true one) of one dense pass


def choose(scored: Scored) -> np.ndarray:
    """Positions of a few images: the most confident mistakes, and right ones from sure to doubtful."""
    surest_first = np.argsort(-scored.confidence, kind="stable")
    wrong, right = (
        surest_first[(scored.ranks[surest_first] > 0) == state] for state in (True, False)
    )
    spread = (
        right[np.linspace(0, len(right) - 1, RIGHT).round().astype(int)]
        if len(right) >= RIGHT
        else right
    )
    return np.concatenate([wrong[:MISTAKES], spread])


def photos(
    models: list[Model],
    scored: Scored,
    dataset: Dataset,
    positions: np.ndarray,
    classes: ClassIndex,
) -> list[Photo]:
    """Dense evaluation of the chosen images once more by the row's first net, keeping the maps.

    Args: positions, in the data set, of the row's images.
    """
    return [
        _photo(models, scored, int(i), dataset, int(positions[i]), classes) for i in choose(scored)
    ]


def _photo(
    models: list[Model],
    scored: Scored,
    i: int,
    dataset: Dataset,
    position: int,
    classes: ClassIndex,
) -> Photo:
    member = scored.row.members[0]
    model, sides, of_model = models[member.model], member.sides, classes.of_model[member.model]
    image, names = dataset.decode(position), [classes.names[c] for c in of_model]
    own = {c: k for k, c in enumerate(of_model)}
    label, best = own[scored.labels[i]], own[scored.best[i]]
    shown_classes = [best] if label == best else [best, label]
    filter = model.runtime.spec.preprocessing.filter
    picture = _data_url(
        rescale(image, min(SHOWN_SIDE, min(image.shape[1:])), filter).permute(1, 2, 0).numpy()
    )
    titles = [f"{escape(names[c])}, Q {side}" for c in shown_classes for side in sides]
    figure = make_subplots(
        rows=len(shown_classes),
        cols=len(sides),
        subplot_titles=titles,
        horizontal_spacing=0.03,
        vertical_spacing=0.1,
    )
    top5 = []
    for column, side in enumerate(sides, start=1):
        pixels = rescale(image, side, filter).numpy()
        scores = model.runtime(np.ascontiguousarray(pixels[None]))
        at_positions = softmax(scores.score_map)[0]
        ranked = np.argsort(-scores.posterior[0], kind="stable")[:5]
        top5.append(
            (side, [(names[c], float(scores.posterior[0][c]), bool(c == label)) for c in ranked])
        )
        for row, c in enumerate(shown_classes, start=1):
            _overlay(
                figure,
                row,
                column,
                picture,
                pixels.shape[1:],
                at_positions[c],
                scores.score_map[0, c],
                model.runtime.spec.crop,
            )
    figure.update_layout(
        template="none", height=20 + 270 * len(shown_classes), margin={"l": 8, "r": 8, "t": 32, "b": 8}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"family": "system-ui, sans-serif", "size": 12},
        coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": {"title": {"text": "posterior"}, "thickness": 12, "len": 0.9}},
    )  # fmt: skip
    drawing = Drawing(f"map-{i}", "Score maps", figure)
    return Photo(dataset.files[position], names[label], names[best], label == best, drawing, top5)


def _overlay(
    figure: go.Figure,
    row: int,
    column: int,
    picture: str,
    size: tuple[int, int],
    posteriors: np.ndarray,
    scores: np.ndarray,
    crop: int,
) -> None:
    """One map over the photo, in pixels of the rescaled image: each position in the middle of the window it sees."""
    height, width = size
    figure.add_layout_image(
        source=picture,
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        xanchor="left",
        yanchor="top",
        sizing="stretch",
        layer="below",
        row=row,
        col=column,
    )
    figure.add_heatmap(
        z=posteriors.round(4), x0=crop / 2, dx=STRIDE, y0=crop / 2, dy=STRIDE, coloraxis="coloraxis", opacity=0.55, customdata=scores.round(2),
        hovertemplate="window centred on %{x:.0f}, %{y:.0f}: posterior %{z:.3f}, score %{customdata}<extra></extra>", row=row, col=column,
    )  # fmt: skip
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain", row=row, col=column)
    axis = figure.get_subplot(row, column).xaxis.plotly_name.replace("axis", "")
    figure.update_yaxes(
        range=[height, 0], visible=False, scaleanchor=axis, constrain="domain", row=row, col=column
    )


def _data_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a JPEG that can stand in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
