"""Finds a confidence bound by inverting a test: the value whose p-value equals the level."""

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
    """Find where p falls to the level on the way from the estimate to the end of the scale.

    It is the Illinois method: the next value to try is where the chord crosses zero, and the height
    of an end that stays twice is halved.

    Args:
        p: The p-value of a hypothetical value, falling (but for small waves) from the estimate to
            the end.
        estimate: Where the p-value is above the level.
        end: The end of the scale, on either side of the estimate.
        level: Such as 0.05.
        guesses: Values to try first. Where p waves about the level, the bound still agrees with p
            at every guess.
        tolerance: Largest error of the bound.

    Returns:
        The bound, which errs outwards; the end itself if p does not fall to the level.

    Example:
        >>> round(invert(lambda x: 1 - x, 0.0, 1.0, 0.05), 4)
        0.95

    Source:
        Dowell and Jarratt, "A modified regula falsi method for computing the root of an equation"
        (BIT, 1971).
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
    last_moved = ""
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
            if last_moved == "inside":
                height_out /= 2
            last_moved = "inside"
        else:
            outside, height_out = middle, height
            if last_moved == "outside":
                height_in /= 2
            last_moved = "outside"
    return outside


def _height(p: Callable[[float], float], value: float, level: float) -> float:
    """Log of the p-value relative to the level: positive inside the bound, not outside."""
    return math.log(max(SMALLEST, p(value)) / level)
