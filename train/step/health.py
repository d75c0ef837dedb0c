"""Signs of a training that will come to nothing, told while little time is lost."""

import math
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from train.record.keeper import Keeper
from train.record.state import State
from train.step.update import Updater
from vgg_deploy.errors import CheckFailed

STALLED = 0.02  # share of ln(classes) that the loss must have fallen by
LOOK_EVERY = 1000  # updates: sound nets, too, stand still for the first hundreds
LOOK_AT = 100  # updates whose mean loss is judged
WILD = 1e3  # times ln(classes), as a first loss: He's draw stays below 10, weights of variance 0.01 begin above 1e7


class Health:
    """Compares losses with ln(classes), the loss of equal scores."""

    def __init__(self, classes: int, init: str, say: Callable[[str], None]):
        self.chance, self.init, self.say, self.warned = math.log(classes), init, say, False
        self.recent: deque[float] = deque(maxlen=LOOK_AT)

    def after_step(self, step: int, loss: float) -> None:
        """Warn of a first loss that is far too large, and once of a net that does not learn.

        Args: step, counted from 1; loss, the mean over the images of this update.
        """
        if step == 1 and loss > WILD * self.chance:
            self.say(
                f"Warning: the first loss is {loss:.4g}; equal scores for all classes would give {self.chance:.2f}. These first weights "
                f"(init {self.init}) are far too large, expect it to diverge: Ctrl-C, and choose --init paper-std, glorot or he"
            )
        self.recent.append(loss)
        if step % LOOK_EVERY == 0 and len(self.recent) == LOOK_AT and not self.warned:
            self._look(step, sum(self.recent) / LOOK_AT)

    def _look(self, step: int, loss: float) -> None:
        if loss <= (1 - STALLED) * self.chance:
            return
        self.warned = True
        self.say(
            f"Warning: the net is not learning. Over the last {LOOK_AT} of {step} updates the mean "
            f"loss is {loss:.3f}; guessing gives {self.chance:.3f}. Deep nets stall from small "
            "random weights: start from a trained A (--chain paper, --net-a), or choose --init "
            "glorot or he"
        )


def refuse_spoilt(updater: Updater, state: State, keeper: Keeper | None) -> None:
    if not updater.weights_are_finite():
        diverged("the loss is nan", state.step + 1, updater.optimiser.param_groups[0]["lr"], keeper)


def overflown(step: int, lr: float) -> NoReturn:
    raise CheckFailed(
        f"gradients overflow float16 again and again up to step {step} (LR {lr:g}), even at a loss scale of 1; "
        "start anew with --precision bf16 or fp32, or with a lower --lr"
    )


def diverged(found: str, step: int, lr: float, keeper: Keeper | None) -> NoReturn:
    last = keeper.run.last if keeper and keeper.run.last.exists() else None
    kept = (
        f"{last} is of before and sound: start from it with --weights, or from the beginning. "
        if last
        else ""
    )
    raise CheckFailed(
        f"{found} at step {step} (LR {lr:g}). {kept}Lower --lr, or choose another --init (he and glorot are made for deep nets)"
    )
