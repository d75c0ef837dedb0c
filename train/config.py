"""Everything one training run depends on, and the two recipes as values of it."""

from dataclasses import dataclass

from vgg_deploy.archs import STRIDE
from vgg_deploy.errors import InputError
from vgg_deploy.model import INITS

PLATEAU = ()  # of `lr_drops`: divide when the validation error stops improving
PRECISIONS = ("fp32", "bf16", "fp16")  # of convolutions and matrix products; weights and their updates are float32


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are the paper's (section 3.1); what it leaves open says so."""

    arch: str = "D"
    width: float = 1.0  # multiplier of all channels
    crop: int = 224  # pixels
    side: tuple[int, int] = (256, 256)  # S in pixels, a whole number drawn per image from this closed range (uniform: open)
    batch: int = 256  # images an update, of all processes together
    epochs: int = 74  # 370K updates of 256 on ILSVRC-2012
    lr: float = 1e-2
    lr_drops: tuple[int, ...] = PLATEAU  # or the epochs after which the rate is divided by 10
    most_drops: int = 3  # divisions by 10 in a run at the most
    patience: int = 4  # epochs without a better validation top-1 error that make a plateau (open)
    momentum: float = 0.9
    weight_decay: float = 5e-4  # L2 on weights
    bias_decay: float = 0.0  # L2 on biases (open)
    bias_lr: float = 1.0  # times the rate of the weights (open)
    dropout: float = 0.5
    colour_shift: float = 0.1  # standard deviation of the PCA coefficients
    init: str = "paper-std"  # of layers that start random; one of model.INITS
    lrn: str = "alexnet"
    precision: str = "fp32"
    streams: int = 16  # of tar shards: so many are read at once, by all processes together, and each batch takes the same from every one
    shuffle_buffer: int = 4096  # of tar shards: images held to be drawn from, in all streams together
    seed: int = 0

    def __post_init__(self):
        for name, value, known in (("init", self.init, INITS), ("precision", self.precision, PRECISIONS)):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.crop < STRIDE or self.crop % STRIDE:
            raise InputError(f"crop {self.crop} is not a multiple of {STRIDE}")
        if not self.crop <= self.side[0] <= self.side[1]:
            raise InputError(f"S {self.side[0]}:{self.side[1]} needs {self.crop} <= low <= high, or the {self.crop} crop does not fit")
        for least, names in enumerate((("most_drops", "bias_decay", "bias_lr", "weight_decay", "shuffle_buffer"), ("batch", "epochs", "patience", "streams"))):
            for name in names:
                if getattr(self, name) < least:
                    raise InputError(f"{name} {getattr(self, name)} is below {least}")
        if not self.lr > 0:
            raise InputError(f"lr {self.lr} is not a positive number")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout {self.dropout} is not in [0;1)")

    @property
    def s(self) -> str:
        """S in the paper's words."""
        low, high = self.side
        return f"S={low}" if low == high else f"S in [{low};{high}]"


RECIPES = {
    "paper": TrainConfig(),
    # For two cores and the built-in pictures: an eighth of the channels at a small crop, scale jitter, and He's draw,
    # with which depth needs no pre-training (the authors' later remark). No dropout: a net this thin has none to spare.
    "small": TrainConfig(
        width=0.125, crop=96, side=(96, 256), batch=16, epochs=14, lr=0.0025, lr_drops=(12, 13), dropout=0.0, init="he"
    ),
}


def learning_rate(config: TrainConfig, errors: list[float]) -> float:
    """The rate of the next epoch, given the validation errors of the epochs so far."""
    drops = _plateaus(errors, config.patience) if config.lr_drops == PLATEAU else sum(len(errors) >= e for e in config.lr_drops)
    return config.lr / 10 ** min(drops, config.most_drops)


def _plateaus(errors: list[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no new best error."""
    best, since, plateaus = float("inf"), 0, 0
    for error in errors:
        since = 0 if error < best else since + 1
        best = min(best, error)
        if since == patience:
            plateaus, since = plateaus + 1, 0
    return plateaus
