"""Describes how a run differs from the paper's recipe (section 3.1), from the run's records."""

from dataclasses import fields
from typing import NamedTuple

from train.recipe.config import PLATEAU, RECIPES, TrainConfig
from train.recipe.learning_rate import effective_drops

PAPER_IMAGES, PAPER_CLASSES = 1_281_167, 1000  # of ILSVRC-2012
PAPER_SIDES = ((256, 256), (384, 384), (256, 512))  # S in pixels; all three are the paper's
# every net and every seed is as good; the kind of boxes is named before; parts of a batch change
# nothing but roundings
NOT_OF_THE_RECIPE = ("arch", "seed", "box_outputs", "micro_batch")


class Circumstances(NamedTuple):
    """What a run depends on besides its config."""

    images: int  # in the training set
    classes: int
    shards: bool = False  # read from tar shards
    from_a: bool = False  # B-E: some layers start from a trained A, as the paper's
    weights: str | None = None  # the file that all layers start from
    frozen: bool = False  # only fc6-fc8 are trained


def describe_recipe(config: TrainConfig, about: Circumstances) -> str:
    """Describe a recipe by what differs from the paper's.

    Everything that differs is named, also if the paper leaves a value open and this program's own
    default was changed. S of 256, 384 and [256;512] are all the paper's and are not named.

    Args:
        config: Of the run.
        about: What else the run depends on.

    Example:
        >>> about = Circumstances(images=64, classes=1000, from_a=True)
        >>> describe_recipe(TrainConfig(batch=16, init="he"), about)
        'paper recipe, except batch 16, init he, 64 images'
    """
    paper = RECIPES["paper-localise" if config.localises else "paper"]
    recipe = _of_boxes(config, about) if config.localises else "paper recipe"
    changed = [
        field.name
        for field in fields(config)
        if getattr(config, field.name) != getattr(paper, field.name)
    ]
    differences = [_describe(name, config) for name in changed if _matters(name, config, about)]
    if config.arch not in ("A", "A-LRN") and not about.from_a and not about.weights:
        differences.append("all layers drawn at random, none from a trained A")
    if about.weights and not config.localises:
        differences.append(f"started from {about.weights}")
    if about.frozen:
        differences.append("only fc6-fc8 trained, on centre crops without augmentation")
    if about.shards and not about.frozen:
        differences.append(
            f"shuffled among {config.shuffle_buffer} images of tar shards in "
            f"{config.streams} streams"
        )
    if about.images != PAPER_IMAGES:
        differences.append(f"{about.images} images")
    if about.classes != PAPER_CLASSES:
        differences.append(f"{about.classes} classes" if about.classes > 1 else "1 class")
    return f"{recipe}, except {', '.join(differences)}" if differences else recipe


def _of_boxes(config: TrainConfig, about: Circumstances) -> str:
    """The recipe of appendix A, with the kind of boxes; both kinds are the paper's."""
    return f"paper recipe of localisation from {about.weights}, {config.box_outputs} boxes"


def _matters(name: str, config: TrainConfig, about: Circumstances) -> bool:
    """Whether a field that differs from the paper's has any effect on the run."""
    if name in NOT_OF_THE_RECIPE or name in ("streams", "shuffle_buffer"):
        return False
    if name == "side":
        return config.side not in PAPER_SIDES
    if name == "lrn":
        return config.arch == "A-LRN"
    if name in ("patience", "most_drops"):
        return config.lr_drops == PLATEAU
    if name == "colour_shift":
        return not about.frozen
    if name == "box_form":
        return config.localises
    return True


def _describe(name: str, config: TrainConfig) -> str:
    """One field in a few words."""
    value = getattr(config, name)
    if name == "side":
        return config.s
    if name == "lr":
        return f"LR {value:g}"
    if name == "lr_drops":
        drops = effective_drops(config)
        return (
            f"LR divided by 10 after epochs {' and '.join(map(str, drops))}"
            if drops
            else "LR never divided"
        )
    if name == "most_drops":
        return f"{value} drops of LR at most"
    words = " ".join("LR" if word == "lr" else word for word in name.split("_"))
    return f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"
