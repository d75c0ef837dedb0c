"""A confidence bound from a test: the value whose p-value is just the level."""

import math
from collections.abc import Callable, Iterable

TOLERANCE = 1e-6  # a ten-thousandth of a percentage point
TRIES = 60
SMALLEST = 1e-300  # stands for p-values that floating point rounds to zero


def invert(
    p: Callable[[float], float],
    estimate: float,
    end: float,
    level: float,
    guesses: Iterable[float] = (),
    tolerance: float = TOLERANCE,
) -> float:
    """Where p falls to the level on the way from the estimate to the end of the scale.

    Args: p, the p-value of a hypothetical value, falling (all but for small waves) from the
        estimate to the end; guesses, values to try first. Where p waves about the level, the bound
        still agrees with p at every guess.
    Returns: the end itself if p does not fall to the level. The bound errs outwards, by at most
        the tolerance.
    """
    if p(end) > level or estimate == end:
        return end
    inside, outside = estimate, end
    height_in, height_out = _height(p, inside, level), _height(p, end, level)
    for guess in guesses:
        if min(inside, outside) < guess < max(inside, outside):
            height = _height(p, guess, level)
            if height > 0:
                inside, height_in = guess, height
            else:
                outside, height_out = guess, height
    # the Illinois method: try where the chord crosses zero, and halve the height of an end that
    # stays twice
    kept = 0
    for _ in range(TRIES):
        width = abs(outside - inside)
        if width <= tolerance:
            break
        # half a tolerance from the ends, so that the next step can close the gap from both sides
        least = 0.5 * tolerance / width
        share = min(1 - least, max(least, height_in / (height_in - height_out)))
        middle = inside + share * (outside - inside)
        height = _height(p, middle, level)
        if height > 0:
            inside, height_in = middle, height
            height_out = height_out / 2 if kept == 1 else height_out
            kept = 1
        else:
            outside, height_out = middle, height
            height_in = height_in / 2 if kept == -1 else height_in
            kept = -1
    return outside


def _height(p: Callable[[float], float], value: float, level: float) -> float:
    return math.log(max(SMALLEST, p(value)) / level)
