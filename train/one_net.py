"""Trains one net, new or resumed, and describes the run before it starts."""

from dataclasses import replace
from pathlib import Path

from train.first_weights import describe, newest_fitting_a
from train.options.moved import Moved
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.recipe.learning_rate import describe_rate, epochs
from train.record.log import log
from train.record.run_folder import Run
from train.session import train_net
from train.sources import NOT_MOVED, Sources, sources_from_json
from vgg_deploy.errors import InputError
from vgg_deploy.job import started_by_torchrun
from vgg_deploy.machine import available_cores
from vgg_deploy.net.archs import ARCHS, parameters
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.newest import RUNS

SHALLOWEST = ("A", "A-LRN")  # nets that do not start from an A


def train_one(
    config: TrainConfig,
    sources: Sources,
    out: Path | None,
    settings: RunSettings,
    init: str | None,
) -> None:
    """Train one net from a random draw, from an A, or from a file.

    Args:
        config: The recipe.
        sources: Images and first weights.
        out: New folder of the run; None for a name by time.
        settings: Of this process.
        init: The draw if it was asked for; then no A replaces it.

    Raises:
        InputError: For data, files or a folder that do not fit.
        Interrupted: After a signal; the work is saved.
    """
    settings.job.on_main(_check_folder, out)
    if out and settings.job.on_main(Run(out).belongs_to_this_job):
        resume_run(out, settings)
        return
    settings.job.on_main(_check_first_weights, config, sources)
    if not (init or sources.net_a or sources.weights):
        runs = out.parent if out else RUNS
        config, sources = choose_first_weights(config, sources, settings, runs)
    describe_run(config, sources, settings)
    train_net(config, sources, settings, out)


def resume_run(folder: Path, settings: RunSettings, moved: Moved = NOT_MOVED) -> None:
    """Resume a run by the recipe it was started with.

    Args:
        folder: Of the run.
        settings: Of this process.
        moved: Where its images and boxes are now.

    Raises:
        InputError: As `train_one`.
        Interrupted: As `train_one`.
    """
    config, saved = settings.job.on_main(Run(folder).saved_config)
    if settings.micro_batch is not None:
        config = replace(config, micro_batch=settings.micro_batch)
    sources = sources_from_json(saved, settings, moved)
    train_net(config, sources, settings, folder, resume=True)


def choose_first_weights(
    config: TrainConfig, sources: Sources, settings: RunSettings, runs: Path
) -> tuple[TrainConfig, Sources]:
    """Choose what B-E start from: the newest A that fits and was trained to its end.

    If there is none, the paper's recipe takes Glorot's draw. The small one trains an A first, which
    takes minutes.

    Args:
        config: The recipe.
        sources: Without first weights.
        settings: Of this process.
        runs: Folder in which to look for an A.

    Returns:
        The config and the sources to train with.
    """
    if config.arch in SHALLOWEST:
        return config, sources
    spec = describe(config, sources.train, Preprocessing(), "")
    net_a = settings.job.on_main(
        newest_fitting_a, runs, spec, _report_unfinished, _report_unreadable
    )
    if net_a:
        return config, replace(sources, net_a=net_a)
    if sources.recipe == "small":
        log(
            f"No trained A that fits {config.arch} in {runs}: training A first, then "
            f"{config.arch} from its layers (section 3.1)"
        )
        config_a = replace(config, arch="A")
        describe_run(config_a, sources, settings)
        return config, replace(sources, net_a=train_net(config_a, sources, settings, None).best)
    log(
        f"No trained A that fits {config.arch} in {runs}: all layers start from Glorot's draw, "
        "which needs no pre-training (the authors' later remark). "
        "For the paper's chain: --chain paper."
    )
    return replace(config, init="glorot"), sources


def describe_run(config: TrainConfig, sources: Sources, settings: RunSettings) -> None:
    """Print net, data, recipe and machine in a few lines."""
    train, job = sources.train, settings.job
    outputs = describe(config, train, Preprocessing(), "").outputs
    count = parameters(ARCHS[config.arch], outputs, config.width, config.crop)
    log(
        f"Net {config.arch}, width {config.width:g}, crop {config.crop}, {count:,} parameters, "
        f"{len(train.classes)} classes; {len(train)} training and {len(sources.val)} validation "
        f"images of {sources.data}"
    )
    in_parts = f", micro-batch {config.micro_batch}" if config.micro_batch else ""
    log(
        f"{epochs(config.epochs)} of batch {config.batch}{in_parts}, {config.s}, "
        f"{describe_rate(config)}, momentum {config.momentum:g}, "
        f"weight decay {config.weight_decay:g}"
    )
    if config.localises:
        crops = "centre crops" if sources.freeze else "random crops as for classification"
        log(
            f"Localisation: {config.box_outputs} boxes in the form {config.box_form!r}, Euclidean "
            f"loss on the box of the true class; {crops}"
        )
    if train.packed and not sources.freeze:
        log(
            f"From {len(train.packed.shards)} tar shards in {config.streams} streams, shuffled "
            f"among {config.shuffle_buffer} images"
        )
    processes = f"{job.world} processes, each with " if job.world > 1 else ""
    log(
        f"On {settings.device}, {config.precision}, {processes}{settings.threads} threads and "
        f"{settings.workers} loader processes"
    )
    cores = available_cores()
    if settings.workers * job.local_world > cores:
        log(
            f"--workers {settings.workers}: there are more loader processes than the {cores} cores "
            "that this job may use, so they wait for each other"
        )


def _check_folder(out: Path | None) -> None:
    """Check that a job of torchrun has a folder.

    Raises:
        InputError: If it has none.
    """
    if out is None and started_by_torchrun():
        raise InputError(
            "--out is missing: a job of torchrun needs a folder to resume from when it is restarted"
        )


def _check_first_weights(config: TrainConfig, sources: Sources) -> None:
    """Check what layers start from.

    Raises:
        InputError: If two files are named, or an A for a net that takes nothing from it.
    """
    if sources.net_a and sources.weights:
        raise InputError("--weights and --net-a both say where layers start; give one of them")
    if sources.net_a and config.arch in SHALLOWEST:
        raise InputError(
            f"--net-a starts B, C, D and E; net {config.arch} has nothing to take from an A"
        )


def _report_unfinished(path: Path) -> None:
    log(
        f"Passed over: {path}, whose run was not trained to its end. Resume it with "
        f"--resume {path.parent}, or start from it as it is with --net-a {path}"
    )


def _report_unreadable(reason: str) -> None:
    log(f"Not considered as a trained A: {reason}")
