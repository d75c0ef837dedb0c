"""Which nets are trained on what, in which order, from which recipe; said before it begins."""

from dataclasses import replace
from pathlib import Path

from train.config import PLATEAU, RECIPES, TrainConfig
from train.frozen import refuse_unless_given
from train.run import Run
from train.session import Machine, Sources, say, train_net
from train.start import describe, newest_fitting_a
from vgg_deploy.archs import ARCHS, parameters
from vgg_deploy.data import Dataset, open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.places import RUNS, newest_run
from vgg_deploy.scenes import built_in
from vgg_deploy.spec import Preprocessing

BUILT_IN = "the built-in pictures"
TRAIN_SCENES, VAL_SCENES = 4000, 300


def train_archs(
    arch: str, data: Path | None, out: Path | None, weights: Path | None, net_a: Path | None,
    freeze: bool, images: int | None, options: dict, machine: Machine,
) -> None:  # fmt: skip
    """Train one net, or A and then the others from it."""
    if freeze:
        refuse_unless_given(weights)
    recipe = "paper" if data or weights else "small"
    if data is None:
        learner = "a thin net learns" if recipe == "small" else "training on"
        say(f"No --data: {learner} {BUILT_IN} by the {recipe} recipe; with --data FOLDER the paper's recipe is used.")
    base = replace(RECIPES[recipe], **{name: value for name, value in options.items() if value is not None})
    train, val = open_sets(data, images, machine.on_error)
    sources = Sources(train, val, str(data.resolve()) if data else BUILT_IN, recipe, weights, net_a, freeze, images)
    if arch != "all":
        config, sources = _choose_start(replace(base, arch=arch), sources, machine, out.parent if out else RUNS)
        _announce(config, sources, machine)
        train_net(config, sources, machine, None, out)
        return
    trained_a = None
    for name in ARCHS:
        config = replace(base, arch=name)
        from_a = name not in ("A", "A-LRN") and weights is None
        sources = replace(sources, net_a=trained_a if from_a else None)
        _announce(config, sources, machine)
        run = train_net(config, sources, machine, None, out / name if out else None)
        if name == "A":
            trained_a = run.best


def resume_run(named: str, machine: Machine) -> None:
    """Go on with a run where it stopped, by the recipe it was begun with."""
    run = Run(newest_run(RUNS, holding="last.pt") if named == "newest" else Path(named))
    config, begun = run.begun_with()
    data = None if begun["data"] == BUILT_IN else Path(begun["data"])
    train, val = open_sets(data, begun["images"], machine.on_error)
    weights = Path(begun["weights"]) if begun["weights"] else None
    sources = Sources(train, val, begun["data"], begun["recipe"], weights, None, begun["freeze"], begun["images"])
    train_net(config, sources, machine, run, None)


def open_sets(data: Path | None, images: int | None, on_error: str) -> tuple[Dataset, Dataset]:
    """Training and validation images of a folder, or the built-in ones."""
    if data is None:
        return built_in("train", images or TRAIN_SCENES), built_in("val", VAL_SCENES)
    train, val = (open_dataset(data, split, on_error=on_error) for split in ("train", "val"))
    for dataset in (train, val):
        for name in dataset.skipped:
            say(f"Left out, not an image: {name}")
    return (train.subset(images) if images and images < len(train) else train), val


def _choose_start(config: TrainConfig, sources: Sources, machine: Machine, runs: Path) -> tuple[TrainConfig, Sources]:
    """B-E start from the newest A that fits. Where there is none, the paper's recipe takes Glorot's draw; the small one
    trains an A first, which takes minutes."""
    if config.arch in ("A", "A-LRN"):
        if sources.net_a:
            raise InputError(f"--net-a starts B, C, D and E; net {config.arch} has nothing to take from an A")
        return config, sources
    if sources.net_a or sources.weights or config.init != RECIPES[sources.recipe].init:
        return config, sources
    found = newest_fitting_a(runs, describe(config, sources.train, Preprocessing(), ""))
    if found:
        return config, replace(sources, net_a=found)
    if sources.recipe == "small":
        say(f"No trained A that fits {config.arch} in {runs}: training A first, then {config.arch} from its layers (section 3.1)")
        config_a = replace(config, arch="A")
        _announce(config_a, sources, machine)
        return config, replace(sources, net_a=train_net(config_a, sources, machine, None, None).best)
    say(
        f"No trained A that fits {config.arch} in {runs}: all layers start from Glorot's draw, which needs no pre-training "
        "(the authors' later remark). For the paper's chain: --arch all."
    )
    return replace(config, init="glorot"), sources


def _announce(config: TrainConfig, sources: Sources, machine: Machine) -> None:
    """The plan in three lines."""
    count = parameters(ARCHS[config.arch], len(sources.train.classes), config.width, config.crop)
    s = f"S={config.side[0]}" if config.side[0] == config.side[1] else f"S in [{config.side[0]};{config.side[1]}]"
    drops = "on a plateau" if config.lr_drops == PLATEAU else f"after epochs {', '.join(map(str, config.lr_drops))}"
    say(
        f"Net {config.arch}, width {config.width:g}, crop {config.crop}, {count:,} parameters, {len(sources.train.classes)} classes; "
        f"{len(sources.train)} training and {len(sources.val)} validation images of {sources.data}"
    )
    say(
        f"{config.epochs} epochs of batch {config.batch}, {s}, LR {config.lr:g} divided by 10 {drops}, "
        f"momentum {config.momentum:g}, weight decay {config.weight_decay:g}"
    )
    say(f"On {machine.device}, {machine.threads} threads, {machine.workers} loader processes")
