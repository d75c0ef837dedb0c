"""Defines the classes of the built-in images: outlines that mirroring or turning keeps apart.

Colour says nothing about a class, and short pieces of edge say little. Most classes differ in how
their parts lie to each other, which is what depth is for.
"""

import math
from collections.abc import Callable

import numpy as np

# Points in the unit disc; several outlines of a shape fill by the even-odd rule
Outline = list[tuple[float, float]]


def _polar(radius: Callable[[float], float], points: int) -> Outline:
    angles = [2 * math.pi * i / points for i in range(points)]
    return [(radius(a) * math.sin(a), -radius(a) * math.cos(a)) for a in angles]


def _circle(radius: float) -> Outline:
    return _polar(lambda a: radius, 64)


def _regular(corners: int) -> Outline:
    return _polar(lambda a: 1.0, corners)


def _star(tips: int, inner: float) -> Outline:
    angles = [math.pi * i / tips for i in range(2 * tips)]
    radii = [1.0 if i % 2 == 0 else inner for i in range(2 * tips)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _cross(arm: float) -> Outline:
    a = arm
    return [
        (-a, -1),
        (a, -1),
        (a, -a),
        (1, -a),
        (1, a),
        (a, a),
        (a, 1),
        (-a, 1),
        (-a, a),
        (-1, a),
        (-1, -a),
        (-a, -a),
    ]


def _gear(teeth: int) -> Outline:
    steps = 4 * teeth
    outline = []
    for i in range(steps):
        radius = 1.0 if i % 4 < 2 else 0.74
        angle = 2 * math.pi * (i + 0.5) / steps
        outline.append((radius * math.sin(angle), -radius * math.cos(angle)))
    return outline


def _crescent() -> Outline:
    """The unit disc without a disc of radius r at distance d."""
    d, r = 0.45, 0.75
    tip = (1 + d * d - r * r) / (2 * d)  # where the two circles meet
    outer, inner = math.acos(tip), math.acos((tip - d) / r)
    back = [(math.cos(a), math.sin(a)) for a in np.linspace(outer, 2 * math.pi - outer, 40)]
    front = [
        (d + r * math.cos(a), r * math.sin(a)) for a in np.linspace(2 * math.pi - inner, inner, 32)
    ]
    return back + front


def _heart() -> Outline:
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    xs = 16 * np.sin(angles) ** 3
    ys = -(
        13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    )
    return [(float(x) / 17, float(y) / 17) for x, y in zip(xs, ys, strict=True)]


SHAPES: dict[str, list[Outline]] = {
    "crescent": [_crescent()],
    "cross": [_cross(0.3)],
    "disc": [_circle(1)],
    "flower": [_polar(lambda a: 0.68 + 0.32 * math.cos(6 * a), 96)],
    "gear": [_gear(9), _circle(0.3)],
    "heart": [_heart()],
    "ring": [_circle(1), _circle(0.6)],
    "square": [_regular(4)],
    "star": [_star(5, 0.4)],
    "triangle": [_regular(3)],
}
