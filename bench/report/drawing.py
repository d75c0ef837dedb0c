"""The record of a plot: its name, caption and figure."""

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Drawing:
    """A plot and what it shows.

    Attributes:
        id: Name of its element on the page.
        caption: Stands above it.
        figure: The plot.
    """

    id: str
    caption: str
    figure: go.Figure
