"""Starts a run: creates its folder and first weights, or reads the checkpoint to resume from."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.feed.colour_statistics import Colours, measure_colours
from train.feed.unreadable import refuse_unreadable
from train.first_weights import copy_from_a, describe, load_what_fits, random_net, weights_of
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.recipe.provenance import Circumstances, describe_recipe
from train.record.contents import compare_contents, keep_contents
from train.record.log import log
from train.record.measures import measures_of
from train.record.run_folder import Run
from train.record.state import State
from train.sources import Sources
from vgg_deploy.errors import InputError
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec, Preprocessing


@dataclass
class Start:
    """What a process starts training with.

    Attributes:
        net: The main process's has its weights; the others get them at the first update.
        run: The folder.
        state: How far the run has come.
        resumed: Whether net and state come from a checkpoint.
        training: What the checkpoint holds for the updater; None in the other processes, and in a
            new run.
    """

    net: VGG
    run: Run
    state: State
    resumed: bool = False
    training: dict[str, Any] | None = None


def start_run(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool,
    locks: ExitStack,
) -> Start:
    """Start in the main process, and let the other processes know how.

    Args:
        config: The recipe.
        sources: Images and first weights.
        settings: Of this process.
        folder: Of the run; None for a new one by time.
        resume: Whether the folder contains the run.
        locks: Takes the lock of the folder.

    Raises:
        InputError: For data, files or a folder that do not fit.
    """
    job = settings.job
    main_start = job.on_all(_start_of_main, config, sources, settings, folder, resume, locks)
    spec, run, state, resumed = job.on_main(_shared, main_start)
    return main_start or Start(VGG(spec), run, state, resumed)


def _shared(start: Start | None) -> tuple[NetSpec, Run, State, bool]:
    """What the other processes must know."""
    assert start is not None  # the main process's
    return start.net.spec, start.run, start.state, start.resumed


def _start_of_main(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool,
    locks: ExitStack,
) -> Start | None:
    """The main process's start; None in the other processes."""
    if not settings.job.is_main:
        return None
    if folder is None or not resume:
        colours = _measured_colours(sources, settings)
        run = Run.create(folder, config, sources.as_json())
        locks.enter_context(run.locked())
        return fresh_start(run, config, sources, colours)
    run = Run(folder)
    locks.enter_context(run.locked())
    if run.last.exists():
        return resume_from(run, config, sources, settings)
    log(f"{folder} has no checkpoint yet: starting at step 0.")
    return fresh_start(run, config, sources, _measured_colours(sources, settings))


def fresh_start(run: Run, config: TrainConfig, sources: Sources, colours: Colours) -> Start:
    """Start at step 0: with a random draw, the layers of an A, or a file's weights."""
    stated = replace(sources.stated, crop=config.crop)  # the crop that is trained
    if sources.weights:
        preprocessing = _preprocessing_of(sources.weights, stated)
        measured = ""
    else:
        red, green, blue = (round(float(mean), 3) for mean in colours.mean)
        preprocessing = Preprocessing(mean=(red, green, blue))
        measured = f" ({_measured_on(colours)})"
    recipe = describe_recipe(config, _circumstances(sources))
    spec = describe(config, sources.train, preprocessing, recipe)
    net = random_net(spec, config)
    if sources.weights:
        log("Start: " + load_what_fits(net, sources.weights, stated))
    elif sources.net_a:
        log("Start: " + copy_from_a(net, sources.net_a) + f", the others {config.init}")
    else:
        log(f"Start: all layers {config.init}, seed {config.seed}")
    log(f"Mean RGB subtracted: {', '.join(f'{m:.2f}' for m in preprocessing.mean)}{measured}")
    state = State(len(sources.train), colours=colours.as_json())
    keep_contents(run.folder, sources.train, sources.val)
    run.reset_to(state, measures_of(config))
    return Start(net, run, state)


def resume_from(run: Run, config: TrainConfig, sources: Sources, settings: RunSettings) -> Start:
    """Start where the run's last checkpoint was written.

    Raises:
        InputError: If config.json, the checkpoint and the images do not belong together.
    """
    checkpoint, state = run.load_last()
    if checkpoint.spec.classes != sources.train.classes:
        raise InputError(
            f"{run.last}: was trained on other classes than {sources.train.root} has; "
            "resume with the --data it was started with"
        )
    _check_net(run, config, sources, checkpoint.spec)
    _check_data(run, sources, state)
    net = VGG(checkpoint.spec)
    net.load_state_dict(checkpoint.weights)
    if state.colours is None:
        state.colours = _measured_colours(sources, settings).as_json()
    if settings.micro_batch is not None:
        state.micro_batch = 0  # chosen anew
    run.note(sources.data, config.micro_batch)
    run.reset_to(state, measures_of(config))
    log(f"Resuming {run.folder} at step {state.step}.")
    return Start(net, run, state, resumed=True, training=checkpoint.training)


def _measured_colours(sources: Sources, settings: RunSettings) -> Colours:
    """Mean colour and colour axes of the training images.

    Raises:
        InputError: For unreadable images unless they are skipped.
    """
    colours = measure_colours(sources.train, settings.threads * settings.job.local_world)
    if settings.on_error == "stop":
        refuse_unreadable(colours)
    return colours


def _measured_on(colours: Colours) -> str:
    """The number of images that a mean was measured on, in words."""
    measured = f"of {colours.images} training images"
    if not colours.unreadable:
        return measured
    return (
        f"{measured}; {len(colours.unreadable)} more cannot be read, "
        f"the first: {colours.unreadable[0]}"
    )


def _preprocessing_of(path: Path, stated: StatedInput) -> Preprocessing:
    """The preprocessing of a file to start from; prints what is assumed of another project's."""
    weights = weights_of(path, stated)
    if weights.assumed:
        advice = "state another with --mean, --std, --channel-order"
        for line in weights.assumed.lines(str(path), advice):
            log(line)
    return weights.preprocessing


def _circumstances(sources: Sources) -> Circumstances:
    weights = sources.weights
    return Circumstances(
        images=len(sources.train),
        classes=len(sources.train.classes),
        shards=sources.train.packed is not None,
        from_a=sources.net_a is not None,
        weights=sources.weights_name or _short(weights),
        frozen=sources.freeze,
    )


def _short(path: Path | None) -> str | None:
    """A file's name with its folder's, as runs all call their checkpoints the same."""
    return f"{path.absolute().parent.name}/{path.name}" if path else None


def _check_net(run: Run, config: TrainConfig, sources: Sources, spec: NetSpec) -> None:
    """Check that config.json and last.pt describe the same net.

    Raises:
        InputError: If they do not.
    """
    configured = describe(config, sources.train, spec.preprocessing, spec.recipe)
    for what in ("arch", "width", "crop", "lrn", "train_side", "boxes", "box_form"):
        stated, trained = getattr(configured, what), getattr(spec, what)
        if stated != trained:
            raise InputError(
                f"{run.last}: was trained with {what} {trained}, config.json beside it says "
                f"{stated}; put back the file that belongs to this run"
            )


def _check_data(run: Run, sources: Sources, state: State) -> None:
    """Check that the images are those that the run was started with.

    Raises:
        InputError: If they are not.
    """
    advice = f"Restore them, or start a new run from this one's weights: --weights {run.last}"
    if compare_contents(run.folder, sources.train, sources.val, advice):
        return
    if state.images != len(sources.train):
        raise InputError(
            f"{run.last}: was trained on {state.images} images, {sources.train.root} has "
            f"{len(sources.train)} now, so the order of an epoch would change. {advice}"
        )
    log(
        f"Warning: {run.folder} has no list of its images, so changes of the data since its start "
        "go unnoticed; from now on it has one."
    )
    keep_contents(run.folder, sources.train, sources.val)
