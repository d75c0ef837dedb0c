"""Trains one net, from its data to best.pt."""

from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import torch

from train.feed.epoch_order import steps_per_epoch
from train.feed.loader_workers import explain_lost_worker
from train.feed.streamed_views import check_streams
from train.feed.unreadable import check_headers
from train.feeding import open_feed
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.record.background import BackgroundWriter
from train.record.keeper import Keeper
from train.record.log import log
from train.record.measures import measures_of
from train.record.report_curves import curves_line
from train.record.run_folder import Run
from train.record.tensorboard import TensorBoardWriter
from train.sources import Sources
from train.start import Start, start_run
from train.step.health import health_of
from train.step.kept_memory import keep_freed_memory, return_freed_memory
from train.step.loop import fit
from train.step.stop_signals import Signals
from train.step.trainee import shape_for_training
from train.step.training import Training
from train.step.update import Updater
from vgg_deploy.errors import InputError, interruptible
from vgg_deploy.job import Job


def train_net(
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    folder: Path | None,
    resume: bool = False,
) -> Run:
    """Train one net in a new folder, or resume the run in it.

    Args:
        config: The recipe.
        sources: Images and first weights.
        settings: Of this process.
        folder: Of the run; None for a new one by time.
        resume: Whether the folder contains the run.

    Returns:
        The run, with its checkpoints.

    Raises:
        InputError: For data or files that do not fit.
        Interrupted: After a signal; the work is saved.
    """
    job = settings.job
    job.on_main(check_share, config, sources, job)
    set_up_torch(settings)
    if settings.on_error == "stop":
        job.on_main(check_headers, sources.val, settings.threads * job.local_world)
    with ExitStack() as locks:
        locks.callback(return_freed_memory)
        start = start_run(config, sources, settings, folder, resume, locks)
        run = start.run
        with interruptible(_kept(run, sources)):
            updater = _updater(start, config, sources, settings)
            _fit(updater, start, config, sources, settings)
            job.on_main(run.finish_best)
        error = f"{measures_of(config).first_words} error {min(start.state.errors):.1f} %"
        log(f"Done: lowest validation {error}, {run.best}")
        job.on_main(_draw_curves, run)
        return run


def _kept(run: Run, sources: Sources) -> str:
    """What a signal before the first update leaves, and the way on."""
    kept = "features that were finished are kept; " if sources.freeze else ""
    return f"{kept}resume with: {run.resume_command}"


def set_up_torch(settings: RunSettings) -> None:
    """Set the switches of PyTorch and of the C library for updates."""
    if settings.device == "cpu":
        keep_freed_memory()
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.allow_tf32 = False  # on by default; float32 means float32 here
    torch.backends.cudnn.benchmark = True  # one input size, thousands of times


def check_share(config: TrainConfig, sources: Sources, job: Job) -> None:
    """Check that the processes of a job can share the images and the batch.

    Raises:
        InputError: If they cannot.
    """
    if config.batch % job.world:
        raise InputError(
            f"--batch {config.batch} cannot be shared evenly by {job.world} processes; "
            f"give a multiple of {job.world}"
        )
    if sources.train.packed and not sources.freeze:
        check_streams(config, job.world)
    if sources.freeze and job.world > 1:
        raise InputError(
            "--freeze-features computes features once and trains on them in one process; "
            "start it without torchrun"
        )
    steps_per_epoch(len(sources.train), config.batch)  # refuses a batch that cannot be filled


def _updater(start: Start, config: TrainConfig, sources: Sources, settings: RunSettings) -> Updater:
    """The net on its device, with its optimiser as in the checkpoint."""
    net = shape_for_training(start.net, settings.device, config.precision)
    updater = Updater(net, sources.freeze, config, settings.job, settings.compiled, log)
    updater.micro_batch.size = start.state.micro_batch
    if start.resumed:
        updater.load_state(start.training)
        start.training = None  # frees the checkpoint's tensors
    return updater


def _fit(
    updater: Updater, start: Start, config: TrainConfig, sources: Sources, settings: RunSettings
) -> None:
    """Train to the last epoch, and close loader processes and files at any end."""
    run, state = start.run, start.state
    keeper = _keeper(run, settings) if settings.job.is_main else None
    log(f"Checkpoints and metrics.csv go to {run.folder}")
    signals = Signals()
    feed = open_feed(updater.net, config, sources, settings, state, signals.arrived)
    health = health_of(config, len(updater.net.spec.classes), log)
    board = closing(keeper.board) if keeper and keeper.board else nullcontext()
    with explain_lost_worker(run.resume_command), closing(feed.batches), board:
        fit(Training(updater, state, health, keeper), feed.batches, feed.validate, signals)


def _keeper(run: Run, settings: RunSettings) -> Keeper:
    writer = BackgroundWriter()
    if not settings.tensorboard:
        return Keeper(run, settings.checkpoint_every, writer)
    log(f"Losses and errors for TensorBoard: tensorboard --logdir {run.folder}")
    return Keeper(run, settings.checkpoint_every, writer, TensorBoardWriter(run))


def _draw_curves(run: Run) -> None:
    log(f"Curves: {curves_line(run.folder)}")
