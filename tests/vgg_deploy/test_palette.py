"""Colours of plots: as many as there are lines, and visible on both backgrounds."""

import numpy as np
import pytest

from vgg_deploy.palette import COLOURS, colour


def rgb(name: str) -> np.ndarray:
    return np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def luminance(name: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    c = rgb(name)
    linear = np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_first_eight_are_those_of_okabe_and_ito_and_two_more():
    assert tuple(colour(i) for i in range(8)) == COLOURS


@pytest.mark.parametrize("lines", [12, 40, 300])
def test_any_number_of_lines_has_as_many_colours(lines):
    assert len({colour(i) for i in range(lines)}) == lines


def test_forty_colours_differ_clearly():
    """Compared in linear RGB by the weights of the eye, not in the space they were chosen in."""
    found = np.array([rgb(colour(i)) for i in range(40)]) * [2, 4, 3]
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    assert apart[~np.eye(40, dtype=bool)].min() > 0.2


def test_all_show_on_white_and_on_black():
    """WCAG asks for a contrast of 3 for text; marks and lines need less."""
    for i in range(100):
        light = luminance(colour(i))
        assert 1.05 / (light + 0.05) > 1.7 and (light + 0.05) / 0.05 > 2, colour(i)
