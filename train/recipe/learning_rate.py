"""Computes the learning rate of an epoch, and describes its drops in words (section 3.1)."""

from train.recipe.config import PLATEAU, TrainConfig


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


def learning_rate(config: TrainConfig, errors: list[float]) -> float:
    """Compute the learning rate of the next epoch (section 3.1).

    Args:
        config: Its `lr`, divided by 10 per drop.
        errors: Validation top-1 errors of the epochs so far, in per cent.

    Example:
        >>> learning_rate(TrainConfig(lr=0.5, lr_drops=(1,)), errors=[80.0])
        0.05
    """
    if config.lr_drops == PLATEAU:
        drops = _plateaus(errors, config.patience)
    else:
        drops = sum(len(errors) >= epoch for epoch in config.lr_drops)
    divisor: int = 10 ** min(drops, config.most_drops)
    return config.lr / divisor


def _plateaus(errors: list[float], patience: int) -> int:
    """Count how often `patience` epochs in a row brought no new lowest error."""
    best, since, plateaus = float("inf"), 0, 0
    for error in errors:
        since = 0 if error < best else since + 1
        best = min(best, error)
        if since == patience:
            plateaus += 1
            since = 0
    return plateaus
