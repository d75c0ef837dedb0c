"""Turns the recipe's options of a command line into a `TrainConfig`, in one place."""

from dataclasses import dataclass, fields, replace
from typing import Any

from train.recipe.config import PLATEAU, RECIPES, TrainConfig
from vgg_deploy.errors import InputError


@dataclass(frozen=True)
class RecipeOptions:
    """The recipe's options as given; None for those that are not.

    Each stands for the field of `TrainConfig` of the same name.
    """

    init: str | None = None
    side: tuple[int, int] | None = None
    crop: int | None = None
    width: float | None = None
    lrn: str | None = None
    epochs: int | None = None
    batch: int | None = None
    micro_batch: int | str | None = None
    lr: float | None = None
    lr_drops: tuple[int, ...] | None = None
    most_drops: int | None = None
    patience: int | None = None
    weight_decay: float | None = None
    bias_decay: float | None = None
    bias_lr: float | None = None
    dropout: float | None = None
    precision: str | None = None
    shuffle_buffer: int | None = None
    streams: int | None = None
    seed: int | None = None
    box_outputs: str | None = None
    box_form: str | None = None

    def given(self) -> dict[str, Any]:
        """The options that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def make_config(recipe: str, options: RecipeOptions) -> TrainConfig:
    """Make a config from a recipe and the options that change it.

    If the epochs of drops are listed, all of them happen, however many drops the recipe allows on
    plateaus.

    Args:
        recipe: A key of `RECIPES`.
        options: What is given replaces the recipe's values.

    Raises:
        InputError: For values out of range, and for options that contradict each other.

    Example:
        >>> make_config("paper", RecipeOptions(lr=0.001)).lr
        0.001
    """
    given = options.given()
    listed = options.lr_drops or ()
    if listed and options.most_drops is None:
        given["most_drops"] = len(listed)
    config = replace(RECIPES[recipe], **given)
    if listed and listed[-1] >= config.epochs:
        raise InputError(
            f"--lr-drops {','.join(map(str, listed))}: a drop after epoch {listed[-1]} has no "
            f"effect in a run of {config.epochs} epochs; list epochs below {config.epochs}, or "
            "raise --epochs"
        )
    if options.patience is not None and config.lr_drops != PLATEAU:
        raise InputError(
            "--patience makes plateaus, but the rate drops after listed epochs "
            f"({','.join(map(str, config.lr_drops))}); "
            "add --lr-drops plateau, or leave --patience out"
        )
    return config
