"""Signs of a training that will come to nothing, told while little time is lost."""

import math
from collections.abc import Callable

STALLED = 0.02  # share of ln(classes) that a loss must have gained by the end of an epoch
PATIENCE = 1000  # updates before it is looked at: sound nets, too, stand still for some hundred
WILD = 1e3  # times ln(classes), as a first loss: He's draw stays below 10, weights of variance 0.01 begin above 1e7


class Health:
    """Compares losses with ln(classes), the loss of equal scores."""

    def __init__(self, classes: int, init: str, say: Callable[[str], None]):
        self.chance, self.init, self.say, self.looked = math.log(classes), init, say, False

    def after_step(self, step: int, loss: float) -> None:
        """The first loss belongs to the weights as they were drawn. Args: step, counted from 1."""
        if step == 1 and loss > WILD * self.chance:
            self.say(
                f"Warning: the first loss is {loss:.4g}; equal scores for all classes would give {self.chance:.2f}. These first weights "
                f"(init {self.init}) are far too large, expect it to diverge: Ctrl-C, and choose --init paper-std, glorot or he"
            )

    def after_epoch(self, row: dict) -> None:
        """Args: row, of metrics.csv."""
        if row["step"] < PATIENCE or self.looked:
            return
        self.looked = True
        if row["train_loss"] > (1 - STALLED) * self.chance:
            self.say(
                f"Warning: after {row['step']} updates the loss is {row['train_loss']:.3f}, where guessing gives {self.chance:.3f}: it does not learn "
                "yet. Deep nets stall from small random weights; start from a trained A (--chain paper, --net-a), or choose --init glorot or he"
            )
