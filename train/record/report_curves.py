"""Draws the curves of a folder where matplotlib is installed, and says so where it is not."""

from importlib.util import find_spec
from pathlib import Path

from vgg_deploy.errors import InputError


def check_matplotlib() -> None:
    """Check for the package that draws, which nothing else here needs.

    Raises:
        InputError: If it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError("curves are drawn by matplotlib, which is missing; pip install matplotlib")


def curves_line(folder: Path) -> str:
    """Draw the curves of a run or a chain, and say where they are.

    Args:
        folder: Of the run or the chain.

    Returns:
        The path of the drawing, or how to get one if matplotlib is missing.

    Raises:
        InputError: If the tables in the folder cannot be read.
    """
    if find_spec("matplotlib") is None:
        return f"not drawn; pip install matplotlib, then python -m train.plot {folder}"
    from train.record.curves import draw_curves

    return str(draw_curves(folder))
