"""The learning rate's drops: what may be asked for together, and what will happen, in words."""

from dataclasses import replace
from typing import Any

from train.recipe.config import PLATEAU, TrainConfig
from vgg_deploy.errors import InputError


def with_options(recipe: TrainConfig, given: dict[str, Any]) -> TrainConfig:
    """A recipe with the fields that the user gave.

    A list of drops is followed to its end, however many the recipe allows on plateaus.
    Args: given, values of fields of TrainConfig.
    Raises: InputError for values out of range, and for options that contradict each other.
    """
    listed = given.get("lr_drops") or ()
    if listed and "most_drops" not in given:
        given = {**given, "most_drops": len(listed)}
    config = replace(recipe, **given)
    if listed and listed[-1] >= config.epochs:
        raise InputError(
            f"--lr-drops {','.join(map(str, listed))}: a drop after epoch {listed[-1]} has no "
            f"effect in a run of {config.epochs} epochs; list epochs below {config.epochs}, or "
            f"raise --epochs"
        )
    if "patience" in given and config.lr_drops != PLATEAU:
        raise InputError(
            f"--patience makes plateaus, but the rate drops after listed epochs "
            f"({','.join(map(str, config.lr_drops))}); "
            "add --lr-drops plateau, or leave --patience out"
        )
    return config


def effective_drops(config: TrainConfig) -> tuple[int, ...]:
    """The listed epochs after which the rate of a run drops: those with an epoch behind them."""
    return tuple(epoch for epoch in config.lr_drops[: config.most_drops] if epoch < config.epochs)


def describe_rate(config: TrainConfig) -> str:
    """The learning rate over a run, in words."""
    rate = f"LR {config.lr:g}"
    drops = effective_drops(config)
    if drops:
        return f"{rate} divided by 10 after epochs {', '.join(map(str, drops))}"
    if config.lr_drops:
        beyond = ", ".join(map(str, config.lr_drops))
        return (
            f"{rate} throughout (the recipe's drops after epochs {beyond} come too late for "
            f"{epochs(config.epochs)})"
        )
    if not config.most_drops:
        return f"{rate} throughout"
    times = "once" if config.most_drops == 1 else f"{config.most_drops} times"
    return f"{rate} divided by 10 on a plateau of {epochs(config.patience)}, at most {times}"


def epochs(count: int) -> str:
    """1 -> "1 epoch"; 2 -> "2 epochs" """
    return f"{count} epoch" if count == 1 else f"{count} epochs"
