"""Describes a net in one record: what is needed beside the weights to rebuild and feed it.

Every file that this package writes carries the record.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import as_object, is_text, parse_json
from vgg_deploy.net.archs import ARCHS, STRIDE
from vgg_deploy.net.box_outputs import BOX_FORM_NAMES, BOX_OUTPUTS, USUAL_FORM, output_channels
from vgg_deploy.number_bounds import MOST_CLASSES, MOST_SIDE

# RGB of 0-1: what torchvision, timm and most pipelines around them feed
USUAL_MEAN = (0.485, 0.456, 0.406)
USUAL_STD = (0.229, 0.224, 0.225)
FILTERS = ("bilinear", "bicubic")
LRN_READINGS = ("alexnet", "caffe")
FIXED = (True, "half-up", "RGB", "0-255")  # fields of Preprocessing that have one value so far
AGAIN = "the file is damaged, write it again"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a net's input: decode to RGB 0-255, rescale, subtract the mean."""

    mean: tuple[float, float, float] = (123.68, 116.779, 103.939)  # RGB, 0-255
    filter: str = "bilinear"  # of the isotropic rescale
    antialias: bool = True  # the filter widens when it shrinks, as in Pillow
    rounding: str = "half-up"  # of the longer side, in integers
    channel_order: str = "RGB"
    input_range: str = "0-255"

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: If a field is not valid.
        """
        if len(self.mean) != 3 or not all(0 <= m <= 255 for m in self.mean):
            raise InputError(f"mean {self.mean} is not three values between 0 and 255 (R, G, B)")
        if self.filter not in FILTERS:
            raise InputError(
                f"resize filter {self.filter!r} is unknown; choose one of {', '.join(FILTERS)}"
            )
        fixed = (self.antialias, self.rounding, self.channel_order, self.input_range)
        if fixed != FIXED:
            raise InputError(
                f"preprocessing {fixed} was written by another version; this one reads {FIXED}"
            )


SCALARS: dict[str, tuple[type, ...]] = {
    "arch": (str,),
    "width": (int, float),
    "crop": (int,),
    "lrn": (str,),
    "recipe": (str,),
    "boxes": (str,),
    "box_form": (str,),
}
OF_BOXES = ("boxes", "box_form")  # fields that a record of a classifier leaves out


@dataclass(frozen=True)
class NetSpec:
    """A net and its classes; its weights are in the same file."""

    arch: str  # a column of Table 1
    # ids in the order of the scores: folder names, wnids; empty: the convolutions alone, no fc6-fc8
    classes: tuple[str, ...]
    names: tuple[str, ...] = ()  # what people call them; the ids when nothing better is known
    width: float = 1.0  # multiplier of every layer's channels
    crop: int = 224  # side of the training crop, pixels; fc6 is crop/32 wide
    # A-LRN only: "alexnet" sums alpha over the window, "caffe" divides it by the window
    lrn: str = "alexnet"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    train_side: tuple[int, int] = (256, 256)  # S: shorter side in training, from this closed range
    recipe: str = ""  # how the weights were made, for people
    # of a localiser, whose outputs are boxes and no scores: one of BOX_OUTPUTS; "" for a classifier
    boxes: str = ""
    box_form: str = USUAL_FORM  # of a localiser: which four numbers state a box

    def __post_init__(self) -> None:
        """Check the fields; give classes without names their ids as names.

        Raises:
            InputError: If a field is not valid, or if two fields contradict each other.
        """
        if self.arch not in ARCHS:
            raise InputError(
                f"arch {self.arch!r} is not in Table 1; choose one of {', '.join(ARCHS)}"
            )
        self._check_classes()
        if not 0 < self.width <= 4:
            raise InputError(f"width {self.width} is not a multiplier between 0 and 4")
        if not STRIDE <= self.crop <= MOST_SIDE or self.crop % STRIDE:
            raise InputError(
                f"crop {self.crop} is not a multiple of {STRIDE} up to {MOST_SIDE} pixels"
            )
        if self.lrn not in LRN_READINGS:
            raise InputError(
                f"LRN reading {self.lrn!r} is unknown; choose one of {', '.join(LRN_READINGS)}"
            )
        sides = self.train_side
        if len(sides) != 2 or not self.crop <= sides[0] <= sides[1] <= MOST_SIDE:
            raise InputError(
                f"S {str(list(sides)):.60} needs {self.crop} <= low <= high <= {MOST_SIDE}, "
                f"or the {self.crop} crop does not fit"
            )
        if self.boxes not in ("", *BOX_OUTPUTS) or self.box_form not in BOX_FORM_NAMES:
            raise InputError(
                f"boxes {self.boxes!r:.40} in the form {self.box_form!r:.40} are unknown; this "
                f"version has {', '.join(BOX_OUTPUTS)} and {', '.join(BOX_FORM_NAMES)}"
            )

    def _check_classes(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise InputError(
                "class ids repeat; key classes by wnid or folder name, "
                "not by a name that two classes share"
            )
        if len(self.classes) > MOST_CLASSES:
            raise InputError(
                f"{len(self.classes):,} classes are more than the {MOST_CLASSES:,} that are read"
            )
        if not is_text(self.recipe):
            raise InputError(f"the recipe {self.recipe!a:.60} is not text in UTF-8")
        unwritable = [text for text in (*self.classes, *self.names) if not is_text(text)]
        if unwritable:
            raise InputError(
                f"the class {unwritable[0]!a:.60} is not text in UTF-8 (half a character); "
                "rename it"
            )
        if not self.names:
            object.__setattr__(self, "names", self.classes)
        if len(self.names) != len(self.classes):
            raise InputError(
                f"{len(self.classes)} classes have {len(self.names)} names; "
                "give one name per class, or none"
            )

    @property
    def has_head(self) -> bool:
        """Whether the net has fc6 to fc8."""
        return bool(self.classes)

    @property
    def has_scores(self) -> bool:
        """Whether the net scores classes; a localiser states boxes instead."""
        return self.has_head and not self.boxes

    @property
    def outputs(self) -> int:
        """Channels of the last layer: a score for each class, or the numbers of the boxes."""
        classes = len(self.classes)
        return output_channels(self.boxes, classes) if self.boxes else classes

    @property
    def test_side(self) -> int:
        """Q of single-scale testing: S, or the middle of its range (section 4.1)."""
        return sum(self.train_side) // 2

    @property
    def test_sides(self) -> tuple[int, ...]:
        """Q of multi-scale testing (section 4.2), ascending.

        S - 32, S and S + 32, or the ends and the middle of the range of S. Where S is the crop
        itself, S - 32 is left out, as no crop would fit.
        """
        low, high = self.train_side
        around = (low - STRIDE, low, low + STRIDE) if low == high else (low, self.test_side, high)
        return tuple(side for side in dict.fromkeys(around) if side >= self.crop)

    def to_json(self) -> str:
        """The record as a JSON object, for `from_json`."""
        record = asdict(self)
        if not self.boxes:  # so that earlier versions read the record of a classifier
            record = {name: value for name, value in record.items() if name not in OF_BOXES}
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "NetSpec":
        """Read what `to_json` wrote.

        Args:
            text: A JSON object.
            where: Names the file in errors.

        Raises:
            InputError: If fields are missing, unknown or invalid.
        """
        description = f"{where}: its description of the net"
        if not isinstance(text, str):
            raise InputError(f"{description} is not a text", AGAIN)
        given = as_object(parse_json(text, description, AGAIN), description, AGAIN)
        try:
            return cls(**_arguments(given))
        except InputError as error:
            raise InputError(f"{where}: {error.message}") from None
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                f"{description} is damaged ({error!r}); write the file again"
            ) from None


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of NetSpec from the object of `NetSpec.to_json`."""
    pre = dict(given["preprocessing"])
    known = {entry.name for entry in fields(NetSpec)}
    known_pre = {entry.name for entry in fields(Preprocessing)}
    unknown = (given.keys() - known) | (pre.keys() - known_pre)
    if unknown:
        raise InputError(f"unknown fields {sorted(unknown)}")
    pre["mean"] = tuple(map(float, _items(pre, "mean", (int, float))))
    for name, kinds in SCALARS.items():
        if name in given and type(given[name]) not in kinds:
            raise InputError(f"{name} is {given[name]!r:.60}, which has another type")
    return {
        **given,
        "classes": _items(given, "classes", (str,)),
        "names": _items(given, "names", (str,)),
        "train_side": _items(given, "train_side", (int,)),
        "preprocessing": Preprocessing(**pre),
    }


def _items(given: dict[str, Any], name: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """The items of a list that have one of these types.

    Raises:
        InputError: For anything else.
    """
    listed = given[name]
    if not isinstance(listed, list) or not all(type(item) in kinds for item in listed):
        raise InputError(f"{name} is {listed!r:.60}, which has another type")
    return tuple(listed)


def numbered(count: int) -> tuple[str, ...]:
    """Ids of classes that nobody named: "0", "1", and so on; a data set matches them by order."""
    return tuple(str(i) for i in range(count))
