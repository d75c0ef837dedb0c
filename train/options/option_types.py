"""Defines the types of the training commands' options, and options with the recipes' defaults."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from train.recipe.config import AUTO, PLATEAU, RECIPES
from train.recipe.number_ranges import RECIPE_LIMITS, SIDE_LIMITS, NumberRange

F = TypeVar("F", bound=Callable[..., Any])
if TYPE_CHECKING:
    NumberType = click.ParamType[int | float]
else:
    NumberType = click.ParamType  # earlier versions of click cannot be subscripted


class Number(NumberType):
    """A number within limits; nan, inf and everything outside are refused with the range."""

    def __init__(self, limits: NumberRange):
        self.limits = limits
        self.name = "integer" if limits.whole else "float"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """Read a number.

        Args:
            value: Text of the command line, or a default.
            param: The option, for the error.
            ctx: The command, for the error.

        Raises:
            click.BadParameter: If it is no number within the limits; names the option.
        """
        number = value
        if isinstance(value, str):
            try:
                number = int(value) if self.limits.whole else float(value)
            except ValueError:
                self.fail(f"{value!r} is not {self.limits}", param, ctx)
        fault = self.limits.fault(number)
        if fault or not isinstance(number, int | float):
            self.fail(fault or f"{number!r} is not {self.limits}", param, ctx)
        return number


class NumberOrAuto(Number):
    """A number within limits, or the word auto."""

    def convert(  # type: ignore[override]  # a number or the word
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str:
        """Read a number or auto, as `Number.convert`."""
        if value == AUTO:
            return AUTO
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}, or {AUTO}", param, ctx)


def recipe_option(flag: str, help: str, **settings: Any) -> Callable[[F], F]:
    """An option for one field of `TrainConfig`, with the defaults of both recipes in its help.

    Args:
        flag: Such as --weight-decay for the field `weight_decay`.
        help: Ends with a full stop.
        **settings: Further arguments of `click.option`.
    """
    field = flag.removeprefix("--").replace("-", "_")
    if field in RECIPE_LIMITS:
        settings["type"] = Number(RECIPE_LIMITS[field])
    return click.option(flag, help=f"{help}  [default: {describe_defaults(field)}]", **settings)


def describe_defaults(field: str) -> str:
    """The values of one field of `TrainConfig` in the paper's recipe and in the small one."""
    paper, small = (as_typed(field, getattr(RECIPES[name], field)) for name in ("paper", "small"))
    return paper if paper == small else f"{paper}; for the built-in images {small}"


def as_typed(field: str, value: Any) -> str:
    """The value of a field of `TrainConfig` as a user types it, such as 256:512 for S."""
    if field == "side":
        low, high = value
        return str(low) if low == high else f"{low}:{high}"
    if field == "lr_drops":
        return "plateau" if value == PLATEAU else ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_side(
    ctx: click.Context | None, param: click.Parameter | None, text: str | None
) -> tuple[int, int] | None:
    """Read S or its range: 256 -> (256, 256); 256:512 -> (256, 512).

    Raises:
        click.BadParameter: If the text is neither, or out of range.
    """
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
        raise click.BadParameter(f"{text!r} is not in ascending order; write it as LOW:HIGH")
    return side


def parse_drops(
    ctx: click.Context | None, param: click.Parameter | None, text: str | None
) -> tuple[int, ...] | None:
    """Read when the learning rate drops: plateau -> (); 50,65 -> (50, 65).

    Raises:
        click.BadParameter: If the text is neither.
    """
    if text is None:
        return None
    if text == "plateau":
        return PLATEAU
    try:
        drops = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither `plateau` nor a list of epochs such as 50,65"
        ) from None
    for epoch in drops:
        fault = RECIPE_LIMITS["epochs"].fault(epoch)
        if fault:
            raise click.BadParameter(fault)
    return drops
