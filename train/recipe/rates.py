"""Describes when the learning rate drops, in numbers and in words."""

from train.recipe.config import TrainConfig


def effective_drops(config: TrainConfig) -> tuple[int, ...]:
    """The listed epochs after which the rate of a run drops: those that an epoch follows."""
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
    """A number of epochs in words: 1 -> "1 epoch", 2 -> "2 epochs"."""
    return f"{count} epoch" if count == 1 else f"{count} epochs"
