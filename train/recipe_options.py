"""Command-line options of a recipe: their types, and their defaults as the records have them."""

from collections.abc import Callable
from typing import Any

import click

from train.recipe.config import PLATEAU, RECIPES
from train.recipe.number_ranges import RECIPE_LIMITS, SIDE_LIMITS, NumberRange


class Number(click.ParamType):
    """A number within limits; nan, inf and everything outside are refused with the range."""

    def __init__(self, limits: NumberRange):
        self.limits = limits
        self.name = "integer" if limits.whole else "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """Raises: click.BadParameter, which names the option."""
        if isinstance(value, str):
            try:
                value = int(value) if self.limits.whole else float(value)
            except ValueError:
                self.fail(f"{value!r} is not {self.limits}", param, ctx)
        fault = self.limits.fault(value)
        if fault:
            self.fail(fault, param, ctx)
        return value


def recipe_option(flag: str, help: str, **more: Any) -> Callable:
    """An option for one field of TrainConfig, with the defaults of both recipes in its help.

    Args: flag, such as --weight-decay for the field weight_decay; help, ends with a full stop;
        more, further arguments of click.option.
    """
    field = flag.removeprefix("--").replace("-", "_")
    if field in RECIPE_LIMITS:
        more["type"] = Number(RECIPE_LIMITS[field])
    return click.option(flag, help=f"{help}  [default: {defaults(field)}]", **more)


def defaults(field: str) -> str:
    """The values of one field in the paper's recipe and in the one for the built-in images."""
    paper, small = (shown(field, getattr(RECIPES[name], field)) for name in ("paper", "small"))
    return paper if paper == small else f"{paper}; for the built-in images {small}"


def shown(field: str, value: Any) -> str:
    """The value of a field of TrainConfig as a user types it, such as 256:512 for S."""
    if field == "side":
        low, high = value
        return str(low) if low == high else f"{low}:{high}"
    if field == "lr_drops":
        return "plateau" if value == PLATEAU else ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_side(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """256 -> (256, 256); 256:512 -> (256, 512)"""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        side = (int(low), int(high if colon else low))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a size or a range; write 256 or 256:512"
        ) from None
    for end in side:
        fault = SIDE_LIMITS.fault(end)
        if fault:
            raise click.BadParameter(f"{fault} pixels")
    if side[0] > side[1]:
        raise click.BadParameter(f"{text!r} ends below its beginning; write it as LOW:HIGH")
    return side


def parse_drops(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """plateau -> (); 50,65 -> (50, 65)"""
    if text is None:
        return None
    if text == "plateau":
        return PLATEAU
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither `plateau` nor a list of epochs such as 50,65"
        ) from None
