"""What vgg-export writes, as records that check themselves.

The defaults of the command line are the defaults of these records. The module imports nothing
heavy, so that `vgg-export --help` is quick. A test compares the names with the tables' keys.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from export.settings.distance_choice import DistanceChoice
from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import WHOLE, Interface, is_shape
from vgg_deploy.exported.metadata import INPUT_FORMS
from vgg_deploy.exported.trt_packages import FLAVOURS

PRECISION_NAMES = ("fp32", "fp16", "bf16", "int8", "int8-cpu", "fp8", "int4", "int4-cpu")
QUANTIZED_NAMES = ("int8", "int8-cpu", "fp8")  # whose layers a limit chooses
METHOD_NAMES = ("max", "percentile", "mse", "entropy")  # where to clip activations
PROFILE_NAMES = ("per-scale", "covering")  # one optimization profile per scale, or one for all
LOW_RANK_NAMES = ("fc6", "fc7")  # layers that can be replaced by two factors
ON_ERROR_NAMES = ("stop", "skip")  # what an unreadable calibration image does
EXIF_NAMES = ("ignore", "apply")
OPSETS = range(17, 24)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")  # of files, by the user
LEAST_CALIBRATION_IMAGES = 2  # one for the ranges, one to measure the cost


@dataclass(frozen=True)
class ExportOptions:
    """The ONNX files to write from one checkpoint.

    Attributes:
        precisions: Some of PRECISION_NAMES, one file each.
        form: What the graph takes as input, one of INPUT_FORMS.
        keep: Convolutions that are not quantized.
        per_channel: Whether quantized weights have one scale per output channel, else per layer.
        calibration: Folder or tar shards of images; None: the built-in images.
        calibration_images: Number of images used. Some of them are held out to measure the cost.
        method: Where to clip activations, one of METHOD_NAMES.
        external_data: Whether weights are in a separate file beside the graph.
        max_cost: Largest root mean square error of a quantized file's scores, in per cent of the
            scores' own; None: any that is not broken.
        on_error: What an unreadable calibration image does, one of ON_ERROR_NAMES.
        exif: What is done with the EXIF rotation of calibration images, one of EXIF_NAMES.
        name: Beginning of the file names; None: the letter of the configuration.
        features: Layers whose outputs the files give; empty: posterior and score map.
        with_scores: Whether files with features give posterior and score map too.
        distance: The distance of two images that the files give instead; None: none.
        max_top1_drop: Largest loss of top-1 accuracy of quantized files, in percentage points;
            layers are kept in float until it holds. None: no limit.
        data: What the loss is measured on: a data set or images alone, for `max_top1_drop`.
        low_rank: Layers, of fc6 and fc7, that are replaced by two factors, with their ranks.
        whole_images: Q, pixels, to which the graph rescales whole images; None: the caller does.
        centre_crop: Whether it scores the centre crop of them alone.
        fixed_shape: (N, H, W) of the only batch that the graph takes; None: any.
        logits: Whether it gives the scores before softmax in place of the posterior.
        opset: ONNX operator set; None: that of each precision.

    Raises:
        InputError: If a name is unknown or a number is out of its range.

    Example:
        >>> ExportOptions(("fp32", "int8"), calibration="photos").method
        'mse'
    """

    precisions: tuple[str, ...] = ("fp32",)
    form: str = "uint8"
    keep: tuple[str, ...] = ()
    per_channel: bool = True
    calibration: Path | str | None = None
    calibration_images: int = 512
    method: str = "mse"
    external_data: bool = False
    max_cost: float | None = None
    on_error: str = "stop"
    exif: str = "ignore"
    name: str | None = None
    features: tuple[str, ...] = ()
    with_scores: bool = False
    distance: DistanceChoice | None = None
    max_top1_drop: float | None = None
    data: Path | str | None = None
    low_rank: tuple[tuple[str, int], ...] = ()
    whole_images: int | None = None
    centre_crop: bool = False
    fixed_shape: tuple[int, int, int] | None = None
    logits: bool = False
    opset: int | None = None

    def __post_init__(self) -> None:
        if not self.precisions:
            raise InputError(f"no precision is named; choose from {', '.join(PRECISION_NAMES)}")
        for name in self.precisions:
            _check_name("precision", name, PRECISION_NAMES)
        _check_name("input form", self.form, tuple(INPUT_FORMS))
        _check_name("calibration method", self.method, METHOD_NAMES)
        _check_name("on_error", self.on_error, ON_ERROR_NAMES)
        _check_name("exif", self.exif, EXIF_NAMES)
        if self.name is not None and not NAME.fullmatch(self.name):
            raise InputError(
                f"the name {self.name!r} cannot begin a file name; use at most 100 letters, "
                "digits and _.+- and begin with a letter, a digit or _"
            )
        if self.calibration_images < LEAST_CALIBRATION_IMAGES:
            raise InputError(
                f"{self.calibration_images} calibration images are too few; "
                f"use at least {LEAST_CALIBRATION_IMAGES}"
            )
        if self.max_cost is not None and not self.max_cost > 0:
            raise InputError(f"max_cost {self.max_cost} is not a percentage above 0")
        self._check_limit()
        if self.with_scores and not self.features:
            raise InputError("scores beside features are asked for, but no features are named")
        self._check_low_rank()
        if self.features and self.distance:
            raise InputError("a file gives features or a distance; export them one after the other")
        self._check_interface()

    def _check_interface(self) -> None:
        if self.opset is not None and self.opset not in OPSETS:
            raise InputError(f"opset {self.opset} is not known; use {OPSETS[0]} to {OPSETS[-1]}")
        if self.centre_crop and self.whole_images is None:
            raise InputError("a centre crop is cut of whole images; state their Q too")
        if self.whole_images is not None and self.form != "uint8":
            raise InputError(f"whole images are uint8; leave the input form {self.form} out")
        if self.fixed_shape is not None and not is_shape(self.fixed_shape):
            raise InputError(f"{self.fixed_shape} is no batch size, height and width")
        scores_alone = self.whole_images is not None or self.logits
        if scores_alone and (self.distance or (self.features and not self.with_scores)):
            raise InputError("whole images and logits are for files with scores")
        if self.whole_images is not None and self.features:
            raise InputError("files of whole images give scores alone; leave features out")
        if self.distance and (self.fixed_shape or self.opset):
            raise InputError("files of distances have dynamic shapes and an opset of their own")

    @property
    def interface(self) -> Interface:
        """What is unusual about input and outputs."""
        view = "centre" if self.centre_crop else "dense"
        return Interface(self.whole_images, view, self.fixed_shape, self.logits)

    @property
    def input(self) -> str:
        """What the graph takes, one of INPUT_FORMS or WHOLE."""
        return self.form if self.whole_images is None else WHOLE

    def _check_limit(self) -> None:
        if self.max_top1_drop is None:
            return
        if not 0 < self.max_top1_drop < 100:
            raise InputError(
                f"max_top1_drop {self.max_top1_drop} is not above 0 and below 100 percentage points"
            )
        if self.data is None:
            raise InputError("max_top1_drop needs photos to measure the loss on")
        if not set(self.precisions) & set(QUANTIZED_NAMES):
            raise InputError(
                "max_top1_drop is for quantized files; name one of the precisions "
                f"{', '.join(QUANTIZED_NAMES)}"
            )
        if self.features or self.distance:
            raise InputError("max_top1_drop is measured on scores; export features without it")
        if self.whole_images is not None or self.fixed_shape is not None:
            raise InputError(
                "max_top1_drop judges files that take photos rescaled to Q; find the layers "
                "without whole images and fixed shape, and keep them"
            )
        four_bits = [name for name in self.precisions if name.startswith("int4")]
        if self.low_rank or four_bits:
            raise InputError(
                "max_top1_drop chooses layers of 8 bits; export "
                f"{'low-rank' if self.low_rank else four_bits[0]} files without it and judge them "
                "with vgg-bench --max-top1-drop"
            )

    def _check_low_rank(self) -> None:
        names = [name for name, _ in self.low_rank]
        for name, rank in self.low_rank:
            _check_name("low-rank layer", name, LOW_RANK_NAMES)
            if rank < 1 or names.count(name) > 1:
                raise InputError(
                    f"low_rank {name}:{rank}: give each layer once, and a rank above 0"
                )
        if self.low_rank and self.distance:
            raise InputError("a distance has no fc6 and fc7; leave low-rank out")
        four_bits = [name for name in self.precisions if name.startswith("int4")]
        if self.low_rank and four_bits:
            raise InputError(
                f"low-rank does not go with {four_bits[0]}, whose fc6 and fc7 have 4 bits; "
                "leave one of them out"
            )


@dataclass(frozen=True)
class EngineOptions:
    """The TensorRT engines to build from ONNX files.

    Attributes:
        flavour: "tensorrt" or "rtx"; None: the installed one.
        targets: GPUs of an RTX engine, such as "sm80"; empty: all that run the precision.
        sides: Test scales Q in pixels; None: by the net's S.
        max_batch: Largest batch.
        profiles: Which optimization profiles, one of PROFILE_NAMES.
        data: Data set whose aspect ratios the engines must take; None: common ones.

    Raises:
        InputError: If a name is unknown or a number is out of its range.
    """

    flavour: str | None = None
    targets: tuple[str, ...] = ()
    sides: tuple[int, ...] | None = None
    max_batch: int = 32
    profiles: str = "per-scale"
    data: Path | str | None = None

    def __post_init__(self) -> None:
        if self.flavour is not None:
            _check_name("TensorRT flavour", self.flavour, tuple(FLAVOURS))
        _check_name("profile rule", self.profiles, PROFILE_NAMES)
        if self.max_batch < 1:
            raise InputError(f"a largest batch of {self.max_batch} is too small; use at least 1")


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(f"{what} {name!r} is unknown; choose from {', '.join(known)}")
