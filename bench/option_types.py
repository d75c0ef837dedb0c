"""Values of options that are numbers with a unit, read so that a slip is said and never taken for a limit."""

import math
from typing import Any, Literal

import click


class Number(click.ParamType):
    """A finite number in a range."""

    def __init__(self, name: str, highest: float, unit: str, example: str):
        """Args: name, as the help shows it; highest, the lowest is 0; unit and example, for messages."""
        self.name, self.highest, self.unit, self.example = name, highest, unit, example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read an option's text."""
        wanted = f"write a number from 0 to {self.highest:g}, {self.unit}, such as {self.example}"
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number; {wanted}", param, ctx)
        if not math.isfinite(number) or not 0 <= number <= self.highest:
            self.fail(f"{value!r} is no limit; {wanted}", param, ctx)
        return number


class Images(click.ParamType):
    """A number of images, or "auto"."""

    name = "number|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Read an option's text."""
        if value == "auto":
            return "auto"
        try:
            count = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of images nor auto", param, ctx)
        if count < 1:
            self.fail(f"{count} images show nothing; use at least 1", param, ctx)
        return count


POINTS = Number("points", 100, "in percentage points without a sign for per cent", "0.5")
PER_CENT = Number("per cent", 100, "in per cent without a sign for it", "99")
POSTERIOR = Number("difference", 1, "a difference of posteriors", "0.01")
IMAGES = Images()
