"""Student's t distribution with a whole number of degrees of freedom."""

import math

MOST_T = 1e6  # quantiles are searched below this
STEPS = 80  # of halving


def at_most(t: float, degrees: int) -> float:
    """The chance of a value of at most t.

    Args:
        t: Any number, also infinite.
        degrees: Of freedom, at least 1.

    Source:
        Abramowitz and Stegun, "Handbook of mathematical functions", 26.7.3 and 26.7.4: finite sums.
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    angle = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    # cos^1 or cos^0, then terms two powers apart
    term = cosine if degrees % 2 else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if degrees % 2 else 2, degrees - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    within = sine * total
    if degrees % 2:
        within = 2 / math.pi * (angle + within)
    return min(1.0, max(0.0, (1 + within) / 2))


def quantile(chance: float, degrees: int) -> float:
    """The value that is not exceeded with a chance.

    Args:
        chance: Above 0 and below 1.
        degrees: Of freedom, at least 1.
    """
    low, high = -MOST_T, MOST_T
    for _ in range(STEPS):
        middle = (low + high) / 2
        if at_most(middle, degrees) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2
