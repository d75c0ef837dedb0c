"""What a command trains: one net, or a run that goes on; said before it begins."""

from dataclasses import replace
from pathlib import Path

from train.first_weights import describe, newest_fitting_a
from train.recipe.config import RECIPES, TRAIN_SCENES, VAL_SCENES, TrainConfig
from train.recipe.rates import describe_rate, epochs, with_options
from train.record.run_folder import Run
from train.session import RunSettings, Sources, say, train_net
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job, started_by_torchrun
from vgg_deploy.machine import available_cores
from vgg_deploy.net.archs import ARCHS, parameters
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.newest import RUNS

BUILT_IN = "the built-in pictures"
MOST_SCENES = 1_000_000  # their names have six digits


def recipe_for(data: str | None, weights: Path | None, options: dict) -> tuple[str, TrainConfig]:
    """Name and values: the paper's where there is data to learn from, the small one for the built-in pictures."""
    recipe = "paper" if data or weights else "small"
    if data is None:
        learner = "a thin net learns" if recipe == "small" else "training on"
        say(
            f"No --data: {learner} {BUILT_IN} by the {recipe} recipe; with --data FOLDER the paper's recipe is used."
        )
    given = {name: value for name, value in options.items() if value is not None}
    return recipe, with_options(RECIPES[recipe], given)


def train_one(
    config: TrainConfig, sources: Sources, out: Path | None, settings: RunSettings, init: str | None
) -> None:
    """Train one net from scratch, from an A, or from a file. Args: init, the draw that was asked for by name, which no A then replaces."""
    settings.job.on_main(_need_folder, out)
    if settings.job.on_main(lambda: out is not None and Run(out).belongs_to_this_job()):
        resume_run(out, settings)
        return
    if sources.net_a and sources.weights:
        raise InputError("--weights and --net-a both say where layers start; give one of them")
    if sources.net_a and config.arch in ("A", "A-LRN"):
        raise InputError(
            f"--net-a starts B, C, D and E; net {config.arch} has nothing to take from an A"
        )
    if not (init or sources.net_a or sources.weights):
        config, sources = _choose_start(config, sources, settings, out.parent if out else RUNS)
    announce(config, sources, settings)
    train_net(config, sources, settings, out)


def _need_folder(out: Path | None) -> None:
    if out is None and started_by_torchrun():
        raise InputError(
            "--out is missing: a job of torchrun needs a folder to go on from when it is restarted"
        )


def resume_run(folder: Path, settings: RunSettings, moved_to: str | None = None) -> None:
    """Resume a run where it stopped, by the recipe it was started with.

    Args: moved_to, where its images are now.
    """
    config, begun = settings.job.on_main(Run(folder).saved_config)
    train_net(config, sources_of(begun, settings, moved_to), settings, folder, resume=True)


def sources_of(begun: dict, settings: RunSettings, moved_to: str | None = None) -> Sources:
    """The files again that `Sources.as_json` names. Args: moved_to, where the images are now."""
    if moved_to:
        begun = {**begun, "data": moved_to}
    data = None if begun["data"] == BUILT_IN else begun["data"]
    train, val = open_sets(data, begun["images"], settings.on_error, settings.job)
    weights, net_a = (
        Path(begun[name]) if begun.get(name) else None for name in ("weights", "net_a")
    )
    stated = StatedInput.from_json(begun.get("stated", {}))
    return Sources(
        train,
        val,
        begun["data"],
        begun["recipe"],
        weights,
        net_a,
        begun["freeze"],
        begun["images"],
        stated,
    )


def open_sets(
    data: str | None, images: int | None, on_error: str, job: Job
) -> tuple[Dataset, Dataset]:
    """Training and validation images of a folder, or the built-in ones; the main process looks first and leaves its index to the others.

    Raises: InputError, also if the processes of a job do not see the same images.
    """

    def opened() -> tuple[Dataset, Dataset]:
        if data is None:
            if images and images > MOST_SCENES:
                raise InputError(
                    f"--images {images}: there are {MOST_SCENES} built-in images at most"
                )
            return built_in("train", images or TRAIN_SCENES), built_in("val", VAL_SCENES)
        train, val = (open_dataset(data, split, on_error=on_error) for split in ("train", "val"))
        _refuse_one_class(train)
        if images and images > len(train):
            say(f"--images {images}: there are {len(train)} training images; all of them are used.")
        return (train.subset(images) if images and images < len(train) else train), val

    first: list = []
    job.on_main(lambda: first.append(opened()))
    train, val = job.on_all(lambda: first[0] if first else opened())
    counts = [len(train), len(val), train.classes, train.files[0], train.files[-1]]
    if any(other != counts for other in job.gather(counts)):
        raise InputError(
            f"{data}: the processes of this job see different images there; give all of them the same data"
        )
    for dataset in (train, val):
        for name in dataset.skipped:
            say(f"Left out, not an image: {name}")
    return train, val


def _refuse_one_class(train: Dataset) -> None:
    if len(train.classes) == 1:
        raise InputError(
            f"{train.root}: has one class, {train.classes[0]}; "
            "a net needs two or more to tell apart"
        )


def _choose_start(
    config: TrainConfig, sources: Sources, settings: RunSettings, runs: Path
) -> tuple[TrainConfig, Sources]:
    """B-E start from the newest A that fits and was trained to its end. Where there is none, the paper's recipe takes Glorot's draw; the small one
    trains an A first, which takes minutes."""
    if config.arch in ("A", "A-LRN"):
        return config, sources
    wanted = describe(config, sources.train, Preprocessing(), "")
    found = settings.job.on_main(newest_fitting_a, runs, wanted, _pass_over, _pass_over_unreadable)
    if found:
        return config, replace(sources, net_a=found)
    if sources.recipe == "small":
        say(
            f"No trained A that fits {config.arch} in {runs}: training A first, then {config.arch} from its layers (section 3.1)"
        )
        config_a = replace(config, arch="A")
        announce(config_a, sources, settings)
        return config, replace(sources, net_a=train_net(config_a, sources, settings, None).best)
    say(
        f"No trained A that fits {config.arch} in {runs}: all layers start from Glorot's draw, which needs no pre-training "
        "(the authors' later remark). For the paper's chain: --chain paper."
    )
    return replace(config, init="glorot"), sources


def _pass_over(path: Path) -> None:
    say(
        f"Passed over: {path}, whose run was not trained to its end. Go on with it by --resume {path.parent}, or take it as it is by --net-a {path}"
    )


def _pass_over_unreadable(reason: str) -> None:
    say(f"Not considered as a trained A: {reason}")


def announce(config: TrainConfig, sources: Sources, settings: RunSettings) -> None:
    """The plan of one net in a few lines."""
    count = parameters(ARCHS[config.arch], len(sources.train.classes), config.width, config.crop)
    say(
        f"Net {config.arch}, width {config.width:g}, crop {config.crop}, {count:,} parameters, {len(sources.train.classes)} classes; "
        f"{len(sources.train)} training and {len(sources.val)} validation images of {sources.data}"
    )
    say(
        f"{epochs(config.epochs)} of batch {config.batch}, {config.s}, {describe_rate(config)}, "
        f"momentum {config.momentum:g}, weight decay {config.weight_decay:g}"
    )
    if sources.train.packed and not sources.freeze:
        say(
            f"From {len(sources.train.packed.shards)} tar shards in {config.streams} streams, shuffled among {config.shuffle_buffer} images"
        )
    jobs = f"{settings.job.world} processes, each with " if settings.job.world > 1 else ""
    say(
        f"On {settings.device}, {config.precision}, {jobs}{settings.threads} threads and {settings.workers} loader processes"
    )
    cores = available_cores()
    if settings.workers * settings.job.local_world > cores:
        say(
            f"--workers {settings.workers}: there are more loader processes than the {cores} cores that "
            "this job may use, so they wait for each other"
        )
