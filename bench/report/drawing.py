"""A plot with its name and caption."""

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Drawing:
    """A plot and what it shows."""

    id: str
    caption: str
    figure: go.Figure
