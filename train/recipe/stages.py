"""What starts from what: the paper's nets in the order of section 3.1, as data."""

import math
from dataclasses import replace
from typing import NamedTuple

from train.recipe.config import TrainConfig
from train.recipe.rates import effective_drops
from vgg_deploy.errors import InputError

CHAIN_FILE = "chain.json"  # in a chain's folder, beside those of its stages

# S of a stage's nets at the paper's crop of 224; another crop takes them in proportion
PAPER_CROP = 224
SIDES = {"256": (256, 256), "384": (384, 384), "jitter": (256, 512)}


class Stage(NamedTuple):
    """One net at one S."""

    arch: str
    s: str  # a key of SIDES, or "" for the recipe's own
    start: str | None = None  # name of the stage whose trained layers it begins with

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.s}" if self.s else self.arch


class FineTune(NamedTuple):
    """Of a stage that goes on with the same net at another S: what is None follows from the recipe."""

    epochs: int | None = None  # default: half; the paper leaves it open
    lr: float | None = None  # default: a tenth, the paper's 1e-3 for S=384; open for jitter


def _deeper(arch: str, first: str | None) -> tuple[Stage, ...]:
    """C, D and E at all three S; B has only the first of them."""
    return (
        Stage(arch, "256", first),
        Stage(arch, "384", f"{arch}-256"),
        Stage(arch, "jitter", f"{arch}-384"),
    )


CHAINS = {
    # section 3.1, and the nets of Table 3
    "paper": (
        Stage("A", "256"), Stage("A-LRN", "256"), Stage("B", "256", "A-256"),
        *_deeper("C", "A-256"), *_deeper("D", "A-256"), *_deeper("E", "A-256"),
    ),
    # the authors' later remark: with Glorot's draw no net needs an A
    "glorot": (Stage("A", "256"), Stage("A-LRN", "256"), Stage("B", "256"), *_deeper("C", None), *_deeper("D", None), *_deeper("E", None)),
    # every net at the S of the recipe
    "one-scale": (Stage("A", ""), Stage("A-LRN", ""), Stage("B", "", "A"), Stage("C", "", "A"), Stage("D", "", "A"), Stage("E", "", "A")),
}  # fmt: skip
INIT_OF = {"glorot": "glorot"}  # chains that fix how random layers are drawn


def stages_of(chain: str, arch: str) -> tuple[Stage, ...]:
    """The stages of one net with those that they start from, or of "all", in running order."""
    stages = CHAINS[chain]
    if arch == "all":
        return stages
    needed = {stage.name for stage in stages if stage.arch == arch}
    for stage in reversed(stages):  # a start comes before what it starts
        if stage.name in needed and stage.start:
            needed.add(stage.start)
    return tuple(stage for stage in stages if stage.name in needed)


def stage_named(chain: str, name: str) -> Stage:
    """Raises: InputError, naming those there are."""
    for stage in CHAINS[chain]:
        if stage.name == name:
            return stage
    raise InputError(
        f"--stage {name}: the chain {chain!r} has none of that name; it has {', '.join(s.name for s in CHAINS[chain])}"
    )


def config_of(stage: Stage, base: TrainConfig, fine_tune: FineTune) -> TrainConfig:
    """The recipe of one stage."""
    config = replace(base, arch=stage.arch)
    if stage.s:
        config = replace(config, side=side_of(stage.s, base.crop))
    if not continues_training(stage):
        return config
    epochs = math.ceil(base.epochs / 2) if fine_tune.epochs is None else fine_tune.epochs
    # one drop less, so that the last rate is that of the stages before
    listed = effective_drops(base)[:-1]
    drops = tuple(math.ceil(drop * epochs / base.epochs) for drop in listed)
    if len(set(drops)) < len(drops) or any(drop >= epochs for drop in drops):
        raise InputError(
            f"--lr-drops {','.join(map(str, base.lr_drops))}: in stage {stage.name} of {epochs} "
            f"epochs the drops would come after epochs {', '.join(map(str, drops))}; "
            "raise --fine-tune-epochs or list fewer drops"
        )
    return replace(
        config,
        epochs=epochs,
        lr=base.lr / 10 if fine_tune.lr is None else fine_tune.lr,
        lr_drops=drops,
        most_drops=len(drops) if base.lr_drops else max(base.most_drops - 1, 0),
    )


def side_of(s: str, crop: int) -> tuple[int, int]:
    """The range of S in pixels. Args: s, a key of SIDES."""
    low, high = SIDES[s]
    return round(low * crop / PAPER_CROP), round(high * crop / PAPER_CROP)


def continues_training(stage: Stage) -> bool:
    """Whether it starts with the same net, trained at another S."""
    return bool(stage.start) and stage.start.startswith(f"{stage.arch}-")
