"""Defines the chains of stages in which the paper's nets are trained (section 3.1), as data."""

import math
from dataclasses import replace
from typing import NamedTuple

from train.recipe.config import TrainConfig
from train.recipe.learning_rate import effective_drops
from vgg_deploy.errors import InputError
from vgg_deploy.near_misses import did_you_mean

CHAIN_FILE = "chain.json"  # in a chain's folder, beside those of its stages

# S of a stage's nets at the paper's crop of 224; another crop takes them in proportion
PAPER_CROP = 224
SIDES = {"256": (256, 256), "384": (384, 384), "jitter": (256, 512)}


class Stage(NamedTuple):
    """One net at one S.

    Attributes:
        arch: A net of Table 1.
        s: A key of `SIDES`, or "" for the recipe's own S.
        source: Name of the stage whose trained layers this one starts from; None for a random
            draw.
    """

    arch: str
    s: str
    source: str | None = None

    @property
    def name(self) -> str:
        """Its name in the chain, and that of its folder, such as D-384."""
        return f"{self.arch}-{self.s}" if self.s else self.arch


class FineTune(NamedTuple):
    """Settings of a stage that trains the same net further at another S.

    Attributes:
        epochs: By default half of the recipe's; the paper leaves it open.
        lr: By default a tenth of the recipe's, which is the paper's 1e-3 for S=384; open for
            jitter.
    """

    epochs: int | None = None
    lr: float | None = None


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
    "glorot": (
        Stage("A", "256"), Stage("A-LRN", "256"), Stage("B", "256"),
        *_deeper("C", None), *_deeper("D", None), *_deeper("E", None),
    ),
    # every net at the S of the recipe
    "one-scale": (
        Stage("A", ""), Stage("A-LRN", ""), Stage("B", "", "A"),
        Stage("C", "", "A"), Stage("D", "", "A"), Stage("E", "", "A"),
    ),
}  # fmt: skip
INIT_OF = {"glorot": "glorot"}  # chains that fix how random layers are drawn


def stages_of(chain: str, arch: str) -> tuple[Stage, ...]:
    """The stages of a chain that a net needs, in running order.

    Args:
        chain: A key of `CHAINS`.
        arch: The net; its stages come with those that they start from. "all" means all stages.

    Example:
        >>> [stage.name for stage in stages_of("paper", "B")]
        ['A-256', 'B-256']
    """
    stages = CHAINS[chain]
    if arch == "all":
        return stages
    needed = {stage.name for stage in stages if stage.arch == arch}
    for stage in reversed(stages):  # a source comes before the stages that start from it
        if stage.name in needed and stage.source:
            needed.add(stage.source)
    return tuple(stage for stage in stages if stage.name in needed)


def stage_named(chain: str, name: str) -> Stage:
    """The stage of a chain that has this name.

    Raises:
        InputError: If there is none; names those there are.
    """
    stages = {stage.name: stage for stage in CHAINS[chain]}
    if name not in stages:
        raise InputError(
            f"--stage {name}: the chain {chain!r} has none of that name; it has "
            f"{', '.join(stages)}{did_you_mean(name, stages)}"
        )
    return stages[name]


def config_of(stage: Stage, base: TrainConfig, fine_tune: FineTune) -> TrainConfig:
    """The recipe of one stage.

    Args:
        stage: Of a chain.
        base: The chain's recipe.
        fine_tune: Of stages that train the same net further.

    Raises:
        InputError: If listed drops of the learning rate would fall together.
    """
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
    """The range of S in pixels.

    Args:
        s: A key of `SIDES`.
        crop: Side of the training crop, pixels.
    """
    low, high = SIDES[s]
    return round(low * crop / PAPER_CROP), round(high * crop / PAPER_CROP)


def continues_training(stage: Stage) -> bool:
    """Whether a stage starts from the same net, trained at another S."""
    return stage.source is not None and stage.source.startswith(f"{stage.arch}-")
