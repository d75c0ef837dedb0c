"""Types of options: numbers with a unit, and lists. A slip is refused, never taken for a value."""

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import click

from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.number_bounds import MOST_IMAGES


class Number(click.ParamType[float]):
    """A finite number in a range from 0."""

    def __init__(self, name: str, highest: float, unit: str, example: str):
        """Describe the number.

        Args:
            name: As the help shows it.
            highest: Largest number that is accepted.
            unit: For messages.
            example: For messages.
        """
        self.name, self.highest, self.unit, self.example = name, highest, unit, example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the text of an option."""
        expected = f"write a number from 0 to {self.highest:g}, {self.unit}, such as {self.example}"
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number; {expected}", param, ctx)
        if not math.isfinite(number) or not 0 <= number <= self.highest:
            self.fail(f"{value!r} is no limit; {expected}", param, ctx)
        return number


class Seconds(click.ParamType[float]):
    """A finite number of seconds in a range."""

    name = "seconds"
    lowest = 0.01
    highest = 3600.0

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the text of an option."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not self.lowest <= seconds <= self.highest:
            allowed = f"from {self.lowest:g} to {self.highest:g}"
            self.fail(f"{value!r} is no number of seconds {allowed}; write 3, say", param, ctx)
        return seconds


class Images(click.ParamType["int | Literal['auto']"]):
    """A number of images, or "auto"."""

    name = "number|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Read the text of an option."""
        if value == "auto":
            return "auto"
        try:
            count = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of images nor auto", param, ctx)
        if count < 1:
            self.fail(f"{count} images show nothing; use at least 1", param, ctx)
        if count > MOST_IMAGES:
            self.fail(f"{count} images are more than {MOST_IMAGES:,}, the limit", param, ctx)
        return count


class Bounds(click.ParamType["tuple[float | None, int | None]"]):
    """Days such as 30d, or a size such as 5GB; read as (days, bytes), one of them None."""

    name = "days|size"
    units: ClassVar = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Examples say it best."""
        return "30d|5GB"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, int | None]:
        """Read the text of an option."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(d|[kmgt]b)", str(value).lower())
        if not match:
            message = f"{value!r} is neither a number of days nor a size; write 30d or 5GB"
            self.fail(message, param, ctx)
        number, unit = float(match[1]), match[2]
        return (number, None) if unit == "d" else (None, int(number * self.units[unit]))


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1, joined by commas: "384,256" means (256, 384), ascending and unique."""

    name = "number,..."

    def __init__(self, example: str, most: int):
        """Describe the list.

        Args:
            example: For messages.
            most: Largest number that is accepted.
        """
        self.example, self.most = example, most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the text of an option."""
        if isinstance(value, tuple):  # read already
            return value
        try:
            sizes = sorted({int(part) for part in value.split(",")})
        except ValueError:
            message = f"{value!r} is not a list of whole numbers; write {self.example}"
            self.fail(message, param, ctx)
        if sizes[0] < 1:
            self.fail(f"{sizes[0]} is below 1", param, ctx)
        if sizes[-1] > self.most:
            self.fail(f"{sizes[-1]} is above {self.most}; write {self.example}", param, ctx)
        return tuple(sizes)


class Names(click.ParamType[tuple[str, ...]]):
    """Known names, joined by commas, each once: "torch,ncnn" means ("torch", "ncnn")."""

    name = "names"

    def __init__(self, known: Sequence[str]):
        """Describe the list.

        Args:
            known: All names that are accepted.
        """
        self.known = known

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All names, as the help shows them."""
        return f"[{'|'.join(self.known)}],..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Read the text of an option."""
        if isinstance(value, tuple):  # read already
            return value
        names = dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
        for name in names:
            if name not in self.known:
                guess = did_you_mean(name, self.known)
                choices = ", ".join(self.known)
                self.fail(f"{name!r} is none; choose from {choices}{guess}", param, ctx)
        return tuple(names)


class Rates(click.ParamType[tuple[float, ...]]):
    """Numbers above 0, joined by commas: "10,2.5" means (2.5, 10.0), ascending and unique."""

    name = "number,..."
    most = 1e6

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Read the text of an option."""
        try:
            rates = sorted({float(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers; write 2.5,10", param, ctx)
        if not all(0.001 <= rate <= self.most for rate in rates):
            allowed = f"from 0.001 to {self.most:,.0f}"
            self.fail(f"{value!r} has a rate that is not {allowed} per second", param, ctx)
        return tuple(rates)


class LatencyBound(click.ParamType["tuple[float | None, float]"]):
    """Milliseconds such as 50, or a multiple such as 5x; read as (ms or None, multiple)."""

    name = "ms|multiple"
    most = 1e7

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Examples say it best."""
        return "MS|5x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, float]:
        """Read the text of an option."""
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(x?)", str(value).lower())
        number = float(match[1]) if match else math.nan
        if match is None or not 0 < number <= self.most:
            message = f"{value!r} is neither milliseconds nor a multiple; write 50 or 5x"
            self.fail(message, param, ctx)
        return (None, number) if match[2] else (number, 1.0)


POINTS = Number("points", 100, "in percentage points without a sign for per cent", "0.5")
PER_CENT = Number("per cent", 100, "in per cent without a sign for it", "99")
POSTERIOR = Number("difference", 1, "a difference of posteriors", "0.01")
MATCHES = Number("match", 1000, "0 for equal boxes", "0.6")
CORRELATION = Number("correlation", 1, "a correlation", "0.99")
DISTANCE = Number("difference", 1e6, "a difference of distances", "0.01")
PER_CENT_MORE = Number("per cent", 1e4, "in per cent without a sign for it", "10")
MEBIBYTES = Number("MiB", 1e8, "in MiB without the unit", "600")
MEGABYTES = Number("MB", 1e8, "in MB without the unit", "160")
MILLISECONDS = Number("ms", 60_000, "in ms without the unit", "5")
BOUNDS = Bounds()
RATES = Rates()
LATENCY_BOUND = LatencyBound()
SECONDS = Seconds()
IMAGES = Images()
