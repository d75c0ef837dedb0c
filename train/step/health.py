"""Warns early of a training that does not learn."""

import math
from collections import deque
from collections.abc import Callable

from train.recipe.config import TrainConfig

STALLED = 0.02  # share of ln(classes) by which the loss must have fallen
LOOK_EVERY = 1000  # updates: even sound nets stand still for the first hundreds
LOOK_AT = 100  # updates whose mean loss is judged
# Times ln(classes), as a first loss. He's draw stays below 10; weights of variance 0.01 start above
# 1e7.
WILD = 1e3


class Health:
    """Compares losses with ln(classes), the loss of equal scores."""

    def __init__(self, classes: int, init: str, log: Callable[[str], None]):
        """Start without losses.

        Args:
            classes: Of the net.
            init: How its random layers were drawn, for messages.
            log: Prints a line.
        """
        self.chance = math.log(classes)
        self.init = init
        self.log = log
        self.warned = False
        self.recent: deque[float] = deque(maxlen=LOOK_AT)

    def after_step(self, step: int, loss: float) -> None:
        """Warn of a first loss that is far too large, and once of a net that does not learn.

        Args:
            step: Counted from 1.
            loss: Mean over the images of this update.
        """
        if step == 1 and loss > WILD * self.chance:
            self.log(
                f"Warning: the first loss is {loss:.4g}; equal scores for all classes would give "
                f"{self.chance:.2f}. The initial weights (init {self.init}) are far too large. "
                "Expect the training to diverge: press Ctrl-C, and choose --init paper-std, glorot "
                "or he"
            )
        self.recent.append(loss)
        if step % LOOK_EVERY == 0 and len(self.recent) == LOOK_AT and not self.warned:
            self._look(step, sum(self.recent) / LOOK_AT)

    def _look(self, step: int, loss: float) -> None:
        if loss <= (1 - STALLED) * self.chance:
            return
        self.warned = True
        self.log(
            f"Warning: the net is not learning. Over the last {LOOK_AT} of {step} updates the mean "
            f"loss is {loss:.3f}; guessing gives {self.chance:.3f}. Deep nets stall from small "
            "random weights: start from a trained A (--chain paper, --net-a), or choose --init "
            "glorot or he"
        )


class BoxHealth(Health):
    """Warns of a localiser whose first loss is far too large.

    There is no loss that all localisers start from, so a standstill is not judged.
    """

    def after_step(self, step: int, loss: float) -> None:
        """Warn of a first loss that is far too large.

        Args:
            step: Counted from 1.
            loss: Mean over the images of this update.
        """
        if step == 1 and loss > WILD:
            self.log(
                f"Warning: the first loss is {loss:.4g}; boxes about the middle of the crop would "
                f"give less than 1. The last layer (init {self.init}) is drawn far too large. "
                "Press Ctrl-C, and choose --init paper-std"
            )


def health_of(config: TrainConfig, classes: int, log: Callable[[str], None]) -> Health:
    """Make the judge of a run's losses.

    Args:
        config: The recipe.
        classes: Of the net.
        log: Prints a line.
    """
    return (BoxHealth if config.localises else Health)(classes, config.init, log)
