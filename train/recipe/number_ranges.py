"""Defines the ranges of the numbers of training, for options and for records."""

import math
from dataclasses import dataclass

from vgg_deploy.number_bounds import MOST_SIDE

MOST_SEED = 2**63 - 1  # what every generator used here takes


@dataclass(frozen=True)
class NumberRange:
    """The range of one number. It is closed unless an end is excluded.

    Attributes:
        low: Smallest value.
        high: Largest value.
        whole: Only integers are in the range.
        above_low: `low` itself is excluded.
        below_high: `high` itself is excluded.
    """

    low: float
    high: float
    whole: bool = True
    above_low: bool = False
    below_high: bool = False

    def fault(self, value: object) -> str | None:
        """Say what is wrong with a value.

        Args:
            value: Anything; a value that is not a finite number is always a fault.

        Returns:
            None if the value is in the range.

        Example:
            >>> NumberRange(1, 5).fault(6)
            '6 is too large, expected a whole number from 1 to 5'
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{value!r} is not {self}"
        if self.whole and not isinstance(value, int):
            return f"{value!r} is not {self}"
        if not math.isfinite(value):
            return f"{value} is not {self}"
        if value < self.low or (self.above_low and value == self.low):
            return f"{value} is too small, expected {self}"
        if value > self.high or (self.below_high and value == self.high):
            return f"{value} is too large, expected {self}"
        return None

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low, high = _shown(self.low), _shown(self.high)
        if not self.above_low and not self.below_high:
            return f"{kind} from {low} to {high}"
        low = f"above {low}" if self.above_low else f"of at least {low}"
        high = f"below {high}" if self.below_high else f"at most {high}"
        return f"{kind} {low} and {high}"


def _shown(value: float) -> str:
    """A bound as a user would type it."""
    return str(value) if isinstance(value, int) else f"{value:g}"


# One entry for each number of TrainConfig. Upper bounds are far beyond use: they catch typing
# errors.
RECIPE_LIMITS = {
    "width": NumberRange(0.001, 4.0, whole=False),
    "crop": NumberRange(32, 2048),
    "batch": NumberRange(1, 1_000_000),
    "epochs": NumberRange(1, 1_000_000),
    # far below the largest rate, float32 overflows within a few updates; training then stops with
    # its own advice
    "lr": NumberRange(0, 1e9, whole=False, above_low=True),
    "most_drops": NumberRange(0, 100),
    "patience": NumberRange(1, 1_000_000),
    "momentum": NumberRange(0, 1, whole=False, below_high=True),
    "weight_decay": NumberRange(0, 1, whole=False),
    "bias_decay": NumberRange(0, 1, whole=False),
    "bias_lr": NumberRange(0, 1000, whole=False),
    "dropout": NumberRange(0, 1, whole=False, below_high=True),
    "colour_shift": NumberRange(0, 10, whole=False),
    "streams": NumberRange(1, 65_536),
    "shuffle_buffer": NumberRange(0, 100_000_000),
    "seed": NumberRange(0, MOST_SEED),
}
MICRO_BATCH = RECIPE_LIMITS["batch"]

SIDE_LIMITS = NumberRange(32, MOST_SIDE)  # pixels; each end of S
IMAGES = NumberRange(1, 1_000_000_000)
CHECKPOINT_EVERY = NumberRange(1, 1_000_000_000)  # updates
DEFAULT_CHECKPOINT_EVERY = 1000
STEP_PATIENCE = NumberRange(1, 1_000_000)  # seconds
DEFAULT_STEP_PATIENCE = 600
IMAGES_PER_SHARD = NumberRange(1, 100_000_000)


def processes(cores: int, least: int) -> NumberRange:
    """The numbers of threads or processes that are worth trying on a machine.

    Args:
        cores: Cores that this process may use.
        least: The smallest number allowed.
    """
    return NumberRange(least, max(64, 8 * cores))
