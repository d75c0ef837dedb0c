"""One net from data to best.pt: what the command does, without the command line."""

from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch
from rich.console import Console

from train import first_weights as start
from train.feed import frozen_features as frozen
from train.feed.colour_statistics import Colours, measure_colours
from train.feed.epoch_order import steps_per_epoch
from train.feed.examples import Examples
from train.feed.loader import train_batches
from train.feed.loader_workers import explain_lost_worker
from train.feed.streamed_views import check_streams
from train.feed.unreadable import Skipped, check_headers, refuse_unreadable
from train.feed.views import Views
from train.recipe.config import TrainConfig
from train.recipe.provenance import Circumstances, describe_recipe
from train.record.contents import compare_contents, keep_contents
from train.record.curves import draw_curves
from train.record.run_folder import Keeper, Run, State
from train.step import head_validation as maps
from train.step.health import Health
from train.step.loop import Validate, fit
from train.step.trainee import shape_for_training, shaped
from train.step.training import Training
from train.step.update import Updater
from train.step.validation import dense_validation
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.job import ALONE, Job
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec, Preprocessing

say = Console(highlight=False, soft_wrap=True).print
CHECKPOINT_EVERY = 1000  # updates


@dataclass(frozen=True)
class RunSettings:
    """Where and how the work is done; none of it changes the result beyond rounding."""

    device: str
    threads: int  # of this process
    workers: int  # loader processes of this process
    on_error: str  # "stop" or "skip" for unreadable images
    compiled: bool = False  # by torch.compile
    checkpoint_every: int = CHECKPOINT_EVERY
    tensorboard: bool = False
    job: Job = ALONE


@dataclass(frozen=True)
class Sources:
    """The files a run starts from."""

    train: Dataset
    val: Dataset
    data: str  # how the user named the data
    recipe: str
    weights: Path | None = None  # start every layer this file holds
    net_a: Path | None = None  # start FROM_A's layers from this net
    freeze: bool = False  # train fc6-fc8 only
    images: int | None = None  # how many training images were asked for
    stated: StatedInput = NOTHING_STATED  # of the input of `weights`

    def as_json(self) -> dict:
        """What a resumed run needs to open the same files."""
        weights, net_a = (
            str(path.resolve()) if path else None for path in (self.weights, self.net_a)
        )
        named = {
            "data": self.data,
            "recipe": self.recipe,
            "weights": weights,
            "net_a": net_a,
            "freeze": self.freeze,
            "images": self.images,
        }
        return named if self.stated.is_empty else {**named, "stated": self.stated.as_json()}


@dataclass
class Beginning:
    """Where the main process begins."""

    net: VGG
    run: Run
    state: State
    held: dict | None = None  # the updater's state in a checkpoint

    @property
    def shared(self) -> tuple[NetSpec, State, Run, bool]:
        """What the other processes must know; they get the weights when they first meet."""
        return self.net.spec, self.state, self.run, self.held is not None


def train_net(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool = False,
) -> Run:
    """Train one net in a new folder, or go on with the run in it; returns the run with its checkpoints.

    Raises: InputError for data or files that do not fit, Interrupted after a signal, when the work was saved.
    """
    with ExitStack() as lock:
        return _train_net(config, sources, settings, folder, resume, lock)


def settle(settings: RunSettings) -> None:
    """Set PyTorch as updates want it."""
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.allow_tf32 = False  # on by default; float32 means float32 here
    torch.backends.cudnn.benchmark = True  # one input size, thousands of times


def _train_net(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool,
    lock: ExitStack,
) -> Run:
    job = settings.job
    check_share(config, sources, job)
    settle(settings)
    if settings.on_error == "stop":
        job.on_main(lambda: check_headers(sources.val, settings.threads * job.local_world))
    begun: list[Beginning] = []
    job.on_main(lambda: begun.append(_beginning(config, sources, settings, folder, resume, lock)))
    spec, state, run, resumed = job.on_main(lambda: begun[0].shared)
    net = shape_for_training(
        begun[0].net if begun else VGG(spec), settings.device, config.precision
    )
    updater = Updater(net, sources.freeze, config, job, settings.compiled)
    if resumed:
        updater.load_state(begun[0].held if begun else None)
    begun.clear()  # with the checkpoint's own tensors
    keeper = _keeper(run, settings) if job.is_main else None
    say(f"Checkpoints and metrics.csv go to {run.folder}")
    if sources.freeze:
        batches, validate = _frozen(net, config, sources, settings, state.step)
    else:
        colours = Colours.from_json(state.colours)
        batches = _examples(net, config, sources, settings, colours, state.step)
        validate = dense_validation(
            net, config.precision, sources.val, settings.threads, settings.on_error, job, say
        )
    health = Health(len(spec.classes), config.init, say)
    board = keeper.board if keeper else None
    closed = closing(board) if board else nullcontext()
    with explain_lost_worker(run.resume_command), closing(batches), closed:  # ends loader processes
        fit(Training(updater, state, health, keeper), batches, validate)
    say(f"Done: lowest validation top-1 error {min(state.errors):.1f} %, {run.best}")
    job.on_main(lambda: say(f"Curves: {draw_curves(run.folder)}"))
    return run


def check_share(config: TrainConfig, sources: Sources, job: Job) -> None:
    """Raises: InputError where images and batch cannot be shared by these processes."""

    def check() -> None:
        if config.batch % job.world:
            raise InputError(
                f"--batch {config.batch} cannot be shared evenly by {job.world} processes; give a multiple of {job.world}"
            )
        if sources.train.packed and not sources.freeze:
            check_streams(config, job.world)
        if sources.freeze and job.world > 1:
            raise InputError(
                "--freeze-features computes features once and trains on them in one process; start it without torchrun"
            )
        steps_per_epoch(len(sources.train), config.batch)

    job.on_main(check)


def _beginning(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool,
    lock: ExitStack,
) -> Beginning:
    """The run's folder, locked, with a net to begin with or the one of its last checkpoint."""
    if not resume:
        colours = _colours(sources, settings)
        run = Run.create(folder, config, sources.as_json())
        lock.enter_context(run.alone())
        return _first(config, sources, colours, run)
    run = Run(folder)
    lock.enter_context(run.alone())
    if run.last.exists():
        return _go_on(run, config, sources, settings)
    say(f"{folder} has no checkpoint yet: beginning at step 0.")
    return _first(config, sources, _colours(sources, settings), run)


def _colours(sources: Sources, settings: RunSettings) -> Colours:
    """Mean colour and axes of the training images.

    Raises: InputError for unreadable ones unless they are skipped.
    """
    colours = measure_colours(sources.train, settings.threads * settings.job.local_world)
    if settings.on_error == "stop":
        refuse_unreadable(colours)
    return colours


def _first(config: TrainConfig, sources: Sources, colours: Colours, run: Run) -> Beginning:
    stated = replace(sources.stated, crop=config.crop)  # the crop that is trained
    mean = Preprocessing(mean=tuple(round(float(m), 3) for m in colours.mean))
    preprocessing = _of_weights(sources.weights, stated) if sources.weights else mean
    recipe = describe_recipe(config, _circumstances(sources))
    spec = start.describe(config, sources.train, preprocessing, recipe)
    net = start.random_net(spec, config)
    if sources.weights:
        say("Start: " + start.load_what_fits(net, sources.weights, stated))
    elif sources.net_a:
        say("Start: " + start.copy_from_a(net, sources.net_a) + f", the others {config.init}")
    else:
        say(f"Start: all layers {config.init}, seed {config.seed}")
    measured = "" if sources.weights else f" ({_measured_on(colours)})"
    say(f"Mean RGB subtracted: {', '.join(f'{m:.2f}' for m in preprocessing.mean)}{measured}")
    state = State(len(sources.train), colours=colours.as_json())
    keep_contents(run.folder, sources.train, sources.val)
    run.start_from(state)
    return Beginning(net, run, state)


def _measured_on(colours: Colours) -> str:
    """Of how many images a mean is."""
    if not colours.unreadable:
        return f"of {colours.images} training images"
    count = len(colours.unreadable)
    first = colours.unreadable[0]
    return f"of {colours.images} training images; {count} more cannot be read, the first: {first}"


def _circumstances(sources: Sources) -> Circumstances:
    weights = sources.weights
    return Circumstances(
        images=len(sources.train),
        classes=len(sources.train.classes),
        shards=sources.train.packed is not None,
        from_a=sources.net_a is not None,
        weights=f"{weights.resolve().parent.name}/{weights.name}" if weights else None,
        frozen=sources.freeze,
    )


def _of_weights(path: Path, stated: StatedInput) -> Preprocessing:
    """The preprocessing of the file to start from; says what is assumed of another project's."""
    held = start.weights_of(path, stated)
    if held.assumed:
        for line in held.assumed.lines(
            str(path), "state another with --mean, --std, --channel-order"
        ):
            say(line)
    return held.preprocessing


def _go_on(run: Run, config: TrainConfig, sources: Sources, settings: RunSettings) -> Beginning:
    held, state = run.load_last()
    if held.spec.classes != sources.train.classes:
        raise InputError(
            f"{run.last}: was trained on other classes than {sources.train.root} has; resume with the --data it was begun with"
        )
    _same_net(run, config, sources, held.spec)
    _same_data(run, sources, state)
    net = VGG(held.spec)
    net.load_state_dict(held.weights)
    if state.colours is None:
        state.colours = _colours(sources, settings).as_json()
    run.note_data(sources.data)
    run.start_from(state)
    say(f"Going on with {run.folder} at step {state.step}.")
    return Beginning(net, run, state, held.training)


def _same_net(run: Run, config: TrainConfig, sources: Sources, spec: NetSpec) -> None:
    """Raises: InputError if config.json and last.pt describe different nets."""
    wanted = start.describe(config, sources.train, spec.preprocessing, spec.recipe)
    for what in ("arch", "width", "crop", "lrn", "train_side"):
        stated, trained = getattr(wanted, what), getattr(spec, what)
        if stated != trained:
            raise InputError(
                f"{run.last}: was trained with {what} {trained}, config.json beside it says "
                f"{stated}; put back the file that belongs to this run"
            )


def _same_data(run: Run, sources: Sources, state: State) -> None:
    """Raises: InputError if the images are not those that the run was started with."""
    way_out = f"Restore them, or start a new run from this one's weights: --weights {run.last}"
    if compare_contents(run.folder, sources.train, sources.val, way_out):
        return
    if state.images != len(sources.train):
        raise InputError(
            f"{run.last}: was trained on {state.images} images, {sources.train.root} has "
            f"{len(sources.train)} now: the order of an epoch would be another. {way_out}"
        )
    say(
        f"Warning: {run.folder} has no list of its images, so changes of the data since its start "
        "go unnoticed; from now on it has one."
    )
    keep_contents(run.folder, sources.train, sources.val)


def _keeper(run: Run, settings: RunSettings) -> Keeper:
    if not settings.tensorboard:
        return Keeper(run, settings.checkpoint_every)
    from train.record.tensorboard import TensorBoardWriter

    say(f"Losses and errors for TensorBoard: tensorboard --logdir {run.folder}")
    return Keeper(run, settings.checkpoint_every, TensorBoardWriter(run))


def _examples(
    net: VGG,
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    colours: Colours,
    begin: int,
) -> Generator[Examples, None, None]:
    """Augmented batches with the mean subtracted, on the device; reports or refuses unreadable images."""
    pre, crop = net.spec.preprocessing, net.spec.crop
    views = Views(sources.train, config, pre, colours.components())
    mean = torch.tensor(pre.mean, dtype=torch.float32, device=settings.device).view(1, 3, 1, 1)
    job = settings.job
    skipped = Skipped("Left out", say if job.is_main else _say_to_stderr)
    for batch in train_batches(
        views, begin, settings.workers, settings.device == "cuda", job.rank, job.world
    ):
        if batch.unreadable and settings.on_error == "stop":
            raise UnreadableImage(batch.unreadable[0])
        skipped.report(batch.unreadable)
        if not len(batch.labels):
            if job.world == 1:
                raise InputError(
                    f"{sources.train.root}: not one image of a batch of {config.batch} could be read"
                )
            none = batch.labels.to(settings.device)
            yield Examples(torch.zeros(0, 3, crop, crop, device=settings.device), none, none)
            continue
        crops, shifts, labels, rows = (t.to(settings.device, non_blocking=True) for t in batch[:4])
        inputs = crops.float() - mean + shifts[:, :, None, None]
        yield Examples(shaped(inputs, config.precision), labels, rows)


def _say_to_stderr(text: str) -> None:
    """For processes whose standard output is not shown."""
    click.echo(text, err=True)


def _frozen(
    net: VGG, config: TrainConfig, sources: Sources, settings: RunSettings, begin: int
) -> tuple[Generator[Examples, None, None], Validate]:
    how = frozen.Extraction(
        net, net.spec.test_side, settings.device, settings.threads, settings.on_error, say
    )
    val = maps.whole_maps(sources.val, how)
    train = frozen.pool5_features(sources.train, how)
    Skipped("Left out", say).report(train.unreadable.values())
    batches = frozen.feature_batches(train, sources.train.labels, config, begin, settings.device)
    return batches, maps.map_validation(how, val, sources.val, config.precision)
