"""Reads timm's config.json beside weights: the input and the classes of their training."""

from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import JsonObject, read_json
from vgg_deploy.net.class_lists import ClassList, checked_classes
from vgg_deploy.net.imagenet_classes import COUNT
from vgg_deploy.net.input_convention import Channels, StatedInput

CONFIG = "config.json"
ARCHITECTURES = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
# Settings of timm's own test pipeline, which is not used: nets are evaluated densely
UNUSED = ("interpolation", "crop_pct", "crop_mode", "test_input_size")


@dataclass(frozen=True)
class TimmConfig:
    """What a config.json says about the weights beside it."""

    path: Path
    stated: StatedInput  # mean and std of 0-1 pixels
    arch: str  # a key of ARCHS
    class_count: int | None
    classes: ClassList | None
    tag: str  # of the weights, such as tv_in1k: who trained them, and on what
    unused: str  # settings that are not used, for people

    @property
    def is_imagenet(self) -> bool:
        """Whether the classes are ILSVRC-2012's, which timm tells by tag and number only."""
        of_1k = self.tag.split("_")[-1] == "in1k"
        return of_1k and self.classes is None and self.class_count == COUNT


def timm_config(weights: Path) -> TimmConfig | None:
    """The config.json in the folder of a weights file, if there is one and timm wrote it.

    Raises:
        InputError: If the file is damaged, or describes a net that is none of timm's VGGs.
    """
    path = weights.with_name(CONFIG)
    if not path.is_file():
        return None
    config = read_json(path)
    if not isinstance(config, dict) or "architecture" not in config:
        return None
    # before 2023 timm wrote the settings beside "architecture", not one level below
    settings = config.get("pretrained_cfg", config)
    if not isinstance(settings, dict):
        raise InputError(f"{path}: its pretrained_cfg is no object; correct the file or remove it")
    for key in ("mean", "std"):
        if key in config and settings.get(key) != config[key]:
            raise InputError(
                f"{path}: has {key} outside its pretrained_cfg, where timm does not read it; move "
                "it into pretrained_cfg or remove it"
            )
    name = str(config["architecture"])
    arch = ARCHITECTURES.get(name.partition(".")[0].removesuffix("_bn"))
    if arch is None:
        raise InputError(
            f"{path}: describes {name}, which is no VGG; keep {weights.name} in a folder without it"
        )
    classes = _classes(config, settings, path)
    count = config.get("num_classes", settings.get("num_classes"))
    if count is not None and type(count) is not int:
        raise InputError(f"{path}: num_classes {count!r} is no number; correct the file")
    unused = [f"{key} {settings[key]}" for key in UNUSED if settings.get(key) is not None]
    stated = _stated(settings, path)
    tag = str(settings.get("tag", ""))
    return TimmConfig(path, stated, arch, count, classes, tag, ", ".join(unused))


def check_fits(config: TimmConfig, arch: str, class_count: int | None, weights: Path) -> None:
    """Refuse a config.json that belongs to another file than the weights beside it.

    Args:
        config: The config.json.
        arch: Net of the weights.
        class_count: Of its scores; None for convolutions alone.
        weights: Their file.

    Raises:
        InputError: If net or number of classes differ.
    """
    other = ""  # what differs
    if config.arch != ("A" if arch == "A-LRN" else arch):
        other = f"net {config.arch}, {weights.name} holds net {arch}"
    elif class_count is not None and config.class_count not in (None, class_count):
        other = f"{config.class_count} classes, {weights.name} has {class_count}"
    elif class_count is not None and config.classes and len(config.classes.ids) != class_count:
        other = f"{len(config.classes.ids)} label_names, {weights.name} has {class_count} classes"
    if other:
        raise InputError(
            f"{config.path}: describes {other}; put the config.json of these weights there, or "
            "move it away"
        )


def _stated(settings: JsonObject, path: Path) -> StatedInput:
    mean, std = _channels(settings, "mean", path), _channels(settings, "std", path)
    try:
        return StatedInput(mean, std)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from None


def _channels(settings: JsonObject, key: str, path: Path) -> Channels | None:
    values = settings.get(key)
    if values is None:
        return None
    numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not isinstance(values, list) or not numbers or len(values) != 3:
        raise InputError(f"{path}: {key} {values!r:.60} is not three numbers; correct the file")
    red, green, blue = values
    return float(red), float(green), float(blue)


def _classes(config: JsonObject, settings: JsonObject, path: Path) -> ClassList | None:
    """The label_names (ids in order) and label_descriptions (id -> text), if they are there."""
    ids = config.get("label_names") or settings.get("label_names")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(id, str) and id for id in ids):
        raise InputError(f"{path}: its label_names are no list of texts; correct or remove them")
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: its label_names repeat; give each class once, or remove them")
    checked_classes(ids, ids, path)
    texts = config.get("label_descriptions") or settings.get("label_descriptions") or {}
    if not isinstance(texts, dict):
        raise InputError(f"{path}: its label_descriptions are no object; correct or remove them")
    names = []
    for id in ids:
        text = texts.get(id, id)
        if not isinstance(text, str):
            raise InputError(f"{path}: its label_descriptions are no texts; correct or remove them")
        names.append(text.split(",")[0].strip() or id)
    return checked_classes(ids, names, path)
