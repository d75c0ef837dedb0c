"""Colours for plots: those of Okabe and Ito, two more, and then as many as a plot needs.

Colour-blind readers can tell the first eight apart. All of them show on white and on black.
"""

from functools import lru_cache

import numpy as np

COLOURS = (
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#009e73",  # green
    "#cc79a7",  # purple
    "#e69f00",  # orange
    "#56b4e9",  # sky blue
    "#8c6d31",  # brown
    "#7f7f7f",  # grey
)
GREY = "#7f7f7f"  # for lines that only guide the eye
LEVELS = 16  # of each channel, among the colours that follow
LIGHTNESS = (40.0, 72.0)  # CIE L*: darker ones vanish on black, lighter ones on white


def colour(index: int) -> str:
    """The colour of a line or bar.

    Beyond the eight named ones, each colour is the one that differs most from all before it
    (distance in CIE L*a*b*). The order is always the same.

    Example:
        >>> colour(0), colour(9) in COLOURS
        ('#0072b2', False)

    Args:
        index: 0 for the first; after more than a thousand the colours repeat.
    """
    if index < len(COLOURS):
        return COLOURS[index]
    more = _further_colours()
    return more[(index - len(COLOURS)) % len(more)]


@lru_cache(maxsize=1)
def _further_colours() -> tuple[str, ...]:
    """All colours of a grid in sRGB that show on both backgrounds, the most different first."""
    steps = np.round(np.linspace(0, 255, LEVELS)).astype(int)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(grid)
    shows = (lab[:, 0] >= LIGHTNESS[0]) & (lab[:, 0] <= LIGHTNESS[1])
    grid, lab = grid[shows], lab[shows]
    chosen = _lab(np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS]))
    apart = np.linalg.norm(lab[:, None] - chosen, axis=2).min(axis=1)
    order = []
    while apart.max() > 0:
        best = int(apart.argmax())
        order.append(best)
        apart = np.minimum(apart, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in grid[order].tolist())


def _lab(rgb: np.ndarray) -> np.ndarray:
    """(n, 3) sRGB of 0-255 to (n, 3) float64 CIE L*a*b*, white point D65."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / (0.9505, 1.0, 1.089)
    curved = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = curved.T
    lab: np.ndarray = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    return lab
