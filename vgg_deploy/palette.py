"""Colours for plots: those of Okabe and Ito, and two more.

Colour-blind readers can tell them apart, and they show on white and on black.
"""

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


def colour(index: int) -> str:
    """The colour of a line or bar.

    Example:
        >>> colour(0) == colour(len(COLOURS))
        True

    Args:
        index: 0 for the first; the colours repeat.
    """
    return COLOURS[index % len(COLOURS)]
