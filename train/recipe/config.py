"""Everything one training run depends on, and the two recipes as values of it."""

from dataclasses import dataclass
from itertools import pairwise

from train.recipe.number_ranges import MOST_SIDE, RECIPE_LIMITS
from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import STRIDE

# Typed here and not imported from `vgg_deploy.net.model`, so that --help needs no PyTorch; a test
# compares them.
INITS = ("paper-std", "paper-var", "glorot", "he")
TRAIN_SCENES, VAL_SCENES = 4000, 300  # built-in images, unless --images asks for another number
PLATEAU = ()  # of `lr_drops`: divide when the validation error stops improving
PRECISIONS = (
    "fp32",
    "bf16",
    "fp16",
)  # of convolutions and matrix products; weights and their updates are float32


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are the paper's (section 3.1); what it leaves open says so."""

    arch: str = "D"
    width: float = 1.0  # multiplier of all channels
    crop: int = 224  # pixels
    side: tuple[int, int] = (
        256,
        256,
    )  # S in pixels, a whole number drawn per image from this closed range (uniform: open)
    batch: int = 256  # images an update, of all processes together
    epochs: int = 74  # 370K updates of 256 on ILSVRC-2012
    lr: float = 1e-2
    lr_drops: tuple[int, ...] = PLATEAU  # or the epochs after which the rate is divided by 10
    most_drops: int = 3  # most divisions by 10 in a run, on plateaus or listed
    patience: int = 4  # epochs without a better validation top-1 error that make a plateau (open)
    momentum: float = 0.9
    weight_decay: float = 5e-4  # L2 on weights
    bias_decay: float = 0.0  # L2 on biases (open)
    bias_lr: float = 1.0  # times the rate of the weights (open)
    dropout: float = 0.5
    colour_shift: float = 0.1  # standard deviation of the PCA coefficients
    init: str = "paper-std"  # of layers that start random; one of INITS
    lrn: str = "alexnet"
    precision: str = "fp32"
    streams: int = 16  # of tar shards: so many are read at once, by all processes together, and each batch takes the same from every one
    shuffle_buffer: int = (
        4096  # of tar shards: images held to be drawn from, in all streams together
    )
    seed: int = 0

    def __post_init__(self):
        for name, value, known in (
            ("init", self.init, INITS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        for name, limits in RECIPE_LIMITS.items():
            fault = limits.fault(getattr(self, name))
            if fault:
                raise InputError(f"{option(name)} {fault}")
        if self.crop % STRIDE:
            raise InputError(f"--crop {self.crop} is not a multiple of {STRIDE}")
        low, high = self.side
        if not self.crop <= low <= high <= MOST_SIDE:
            raise InputError(
                f"--side {low}:{high} needs {self.crop} <= low <= high <= {MOST_SIDE} pixels, "
                f"for S may not be below the crop of {self.crop}"
            )
        self._check_drops()

    def _check_drops(self) -> None:
        """Raises: InputError for listed epochs that the learning rate could not follow."""
        listed = ",".join(map(str, self.lr_drops))
        if any(epoch < 1 for epoch in self.lr_drops):
            raise InputError(
                f"--lr-drops {listed}: epochs count from 1; "
                "list the epochs after which the rate drops"
            )
        if any(after <= before for before, after in pairwise(self.lr_drops)):
            raise InputError(f"--lr-drops {listed}: list every epoch once, in ascending order")
        if len(self.lr_drops) > self.most_drops:
            raise InputError(
                f"--lr-drops {listed} lists {len(self.lr_drops)} drops and --most-drops allows "
                f"{self.most_drops}; make them agree"
            )

    @property
    def s(self) -> str:
        """S in the paper's words."""
        low, high = self.side
        return f"S={low}" if low == high else f"S in [{low};{high}]"


def option(name: str) -> str:
    """The command-line option of a field; the name itself for fields that have none."""
    return name if name in ("momentum", "colour_shift") else f"--{name.replace('_', '-')}"


RECIPES = {
    "paper": TrainConfig(),
    # For two cores and the built-in pictures: an eighth of the channels at a small crop, scale jitter, and He's draw,
    # with which depth needs no pre-training (the authors' later remark). No dropout: a net this thin has none to spare.
    "small": TrainConfig(
        width=0.125,
        crop=96,
        side=(96, 256),
        batch=16,
        epochs=14,
        lr=0.0025,
        lr_drops=(12, 13),
        dropout=0.0,
        init="he",
    ),
}


def learning_rate(config: TrainConfig, errors: list[float]) -> float:
    """The rate of the next epoch, given the validation errors of the epochs so far, in per cent."""
    drops = (
        _plateaus(errors, config.patience)
        if config.lr_drops == PLATEAU
        else sum(len(errors) >= e for e in config.lr_drops)
    )
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
