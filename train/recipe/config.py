"""Defines everything one training run depends on, and the two recipes as values of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from train.recipe.number_ranges import MICRO_BATCH, RECIPE_LIMITS
from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.net.box_outputs import BOX_FORM_NAMES, BOX_OUTPUTS, USUAL_FORM
from vgg_deploy.number_bounds import MOST_SIDE

# Written here and not imported from `vgg_deploy.net.model`, so that --help needs no PyTorch; a test
# compares them.
INITS = ("paper-std", "paper-var", "glorot", "he")
TRAIN_SCENES, VAL_SCENES = 4000, 300  # built-in images, unless --images asks for another number
PLATEAU: tuple[int, ...] = ()  # of `lr_drops`: divide when the validation error stops improving
# of convolutions and matrix products; weights and their updates are float32
PRECISIONS = ("fp32", "bf16", "fp16")
CLASSIFY, LOCALISE = "classify", "localise"
TASKS = (CLASSIFY, LOCALISE)
AUTO = "auto"  # of `micro_batch`: as many images at once as fit into the free memory


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one run.

    The defaults are the paper's (section 3.1). "Open" marks values that the paper does not state.

    Attributes:
        arch: A net of Table 1.
        width: Multiplier of all layers' channels.
        crop: Side of the training crop, pixels.
        side: S in pixels. A whole number is drawn per image from this closed range; that it is
            drawn uniformly is open.
        batch: Images per update, over all processes.
        micro_batch: Images per forward and backward pass of a process; an update adds up the
            gradients of its parts. AUTO, or None for a process's whole share of the batch.
        epochs: 74 of them are 370K updates of 256 images on ILSVRC-2012.
        lr: First learning rate of the weights.
        lr_drops: PLATEAU, or the epochs after which the rate is divided by 10.
        most_drops: Most divisions by 10 in a run, on plateaus or listed.
        patience: Epochs without a better validation top-1 error that make a plateau (open).
        momentum: Of the gradient descent.
        weight_decay: L2 penalty on weights.
        bias_decay: L2 penalty on biases (open).
        bias_lr: Learning rate of biases, as a multiple of that of weights (open).
        dropout: Share of the outputs of fc6 and fc7 that are set to zero.
        colour_shift: Standard deviation of the coefficients of the colour axes.
        init: How layers that start random are drawn; one of `INITS`.
        lrn: A-LRN only: "alexnet" sums alpha over the window, "caffe" divides it by the window.
        precision: One of `PRECISIONS`.
        streams: Of tar shards: parts of the data read at the same time, over all processes. Each
            batch takes the same number of images from every stream.
        shuffle_buffer: Of tar shards: images held in memory to draw from, over all streams.
        seed: Of weights, order, augmentation and dropout.
        task: One of `TASKS`: a net that scores classes, or one that states boxes (appendix A).
        box_outputs: Of a localiser: one box for all classes, or one for each; of `BOX_OUTPUTS`.
        box_form: Of a localiser: the four numbers that state a box; of `BOX_FORM_NAMES`.
    """

    arch: str = "D"
    width: float = 1.0
    crop: int = 224
    side: tuple[int, int] = (256, 256)
    batch: int = 256
    micro_batch: int | str | None = None
    epochs: int = 74
    lr: float = 1e-2
    lr_drops: tuple[int, ...] = PLATEAU
    most_drops: int = 3
    patience: int = 4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_decay: float = 0.0
    bias_lr: float = 1.0
    dropout: float = 0.5
    colour_shift: float = 0.1
    init: str = "paper-std"
    lrn: str = "alexnet"
    precision: str = "fp32"
    streams: int = 16
    shuffle_buffer: int = 4096
    seed: int = 0
    task: str = CLASSIFY
    box_outputs: str = "per-class"
    box_form: str = USUAL_FORM

    def __post_init__(self) -> None:
        _check_choice("init", self.init, INITS)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("task", self.task, TASKS)
        _check_choice("box_outputs", self.box_outputs, BOX_OUTPUTS)
        _check_choice("box_form", self.box_form, BOX_FORM_NAMES)
        for name, limits in RECIPE_LIMITS.items():
            fault = limits.fault(getattr(self, name))
            if fault:
                raise InputError(f"{option_of(name)} {fault}")
        if self.micro_batch not in (None, AUTO):
            fault = MICRO_BATCH.fault(self.micro_batch)
            if fault:
                raise InputError(f"--micro-batch {fault}, or {AUTO}")
        if self.crop % STRIDE:
            raise InputError(f"--crop {self.crop} is not a multiple of {STRIDE}")
        low, high = self.side
        if not self.crop <= low <= high <= MOST_SIDE:
            raise InputError(
                f"--side {low}:{high} needs {self.crop} <= low <= high <= {MOST_SIDE} pixels, "
                f"for S may not be below the crop of {self.crop}"
            )
        self._check_drops()

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TrainConfig":
        """Read what `dataclasses.asdict` and JSON made of a config.

        Args:
            saved: Fields by name; tuples are lists.

        Raises:
            InputError: For values out of range.
            TypeError: For fields of another version.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
        }
        return cls(**values)

    @property
    def localises(self) -> bool:
        """Whether a net is trained that states boxes."""
        return self.task == LOCALISE

    @property
    def s(self) -> str:
        """S in the paper's words."""
        low, high = self.side
        return f"S={low}" if low == high else f"S in [{low};{high}]"

    def _check_drops(self) -> None:
        """Check the listed epochs.

        Raises:
            InputError: If the learning rate could not follow them.
        """
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


def option_of(field: str) -> str:
    """The command-line option of a field; the field's own name if it has none."""
    return field if field in ("momentum", "colour_shift") else f"--{field.replace('_', '-')}"


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{field} {value!r} is unknown; choose one of {', '.join(choices)}")


RECIPES = {
    "paper": TrainConfig(),
    # For two cores and the built-in images: an eighth of the channels at a small crop, scale
    # jitter, and He's draw, with which depth needs no pre-training (the authors' later remark). No
    # dropout: a net this thin has no outputs to spare.
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
    # Appendix A: from the classification net, LR 1e-3. How long is open: here as long as the stages
    # at S = 384 and jitter, with one drop less than the first. Only the last layer is drawn.
    "paper-localise": TrainConfig(task=LOCALISE, epochs=37, lr=1e-3, most_drops=2),
    # The same for the built-in images
    "small-localise": TrainConfig(
        task=LOCALISE,
        width=0.125,
        crop=96,
        side=(165, 165),
        batch=16,
        epochs=10,
        lr=0.01,
        lr_drops=(7, 9),
        most_drops=2,
        dropout=0.0,
    ),
}
