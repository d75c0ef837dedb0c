"""One net from data to best.pt: what the command does, without the command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from train import frozen, start
from train.config import TrainConfig
from train.loader import TrainBatch, Views, steps_per_epoch, train_batches
from train.loop import Errors, Examples, State, fit, sgd
from train.run import Run
from train.statistics import Colours, measure_colours
from vgg_deploy.batches import Scale, size_batches
from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.model import VGG
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import TorchRuntime
from vgg_deploy.scoring import error_pct, ranks
from vgg_deploy.spec import Preprocessing

say = Console(highlight=False, soft_wrap=True).print


@dataclass(frozen=True)
class Machine:
    """Where and how the work is done; none of it changes the result beyond rounding."""

    device: str
    threads: int
    workers: int
    on_error: str  # "stop" or "skip" for unreadable images


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

    def as_json(self) -> dict:
        """What a resumed run needs to open the same files."""
        weights = str(self.weights.resolve()) if self.weights else None
        return {"data": self.data, "recipe": self.recipe, "weights": weights, "freeze": self.freeze, "images": self.images}


def train_net(config: TrainConfig, sources: Sources, machine: Machine, run: Run | None, folder: Path | None) -> Run:
    """Train one net, or go on with `run`; returns the folder with its checkpoints.

    Raises: InputError for data or files that do not fit, KeyboardInterrupt after an interrupt that was saved.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(machine.threads)
    colours = measure_colours(sources.train, machine.threads)
    state, optimiser_state = State(), None
    if run:
        held = run.load_last()
        net = VGG(held.spec, config.dropout)
        net.load_state_dict(held.weights)
        _check_classes(held.spec.classes, sources.train, run)
        state = State(held.training["step"], held.training["errors"], held.training["elapsed_s"])
        optimiser_state = held.training["optimiser"]
        torch.set_rng_state(held.training["rng"])
        run.forget_rows_after(len(state.errors))
        say(f"Going on with {run.folder} at step {state.step}.")
    else:
        net = _first_net(config, sources, colours)
        run = Run.create(folder, config, sources.as_json())
    net.to(machine.device, memory_format=torch.channels_last)
    trainee = net.head if sources.freeze else net
    optimiser = sgd(trainee, config)
    if optimiser_state:
        optimiser.load_state_dict(optimiser_state)
    say(f"Checkpoints and metrics.csv go to {run.folder}")
    steps = steps_per_epoch(len(sources.train), config.batch)
    if sources.freeze:
        batches, validate = _frozen(net, config, sources, machine, state.step)
    else:
        batches = _examples(net, config, sources, machine, colours, state.step)
        validate = _dense_validation(net, sources.val, machine)
    if not fit(net, trainee, batches, steps, validate, config, run, optimiser, state):
        say(f"Stopped at step {state.step}; go on with: python -m train --resume {run.folder}")
        raise KeyboardInterrupt
    say(f"Done: lowest validation top-1 error {min(state.errors):.1f} %, {run.best}")
    return run


def _first_net(config: TrainConfig, sources: Sources, colours: Colours) -> VGG:
    mean = Preprocessing(mean=tuple(round(float(m), 3) for m in colours.mean))
    preprocessing = start.weights_of(sources.weights)[1] if sources.weights else mean
    spec = start.describe(config, sources.train, preprocessing, f"{sources.recipe} recipe, {config.epochs} epochs of {len(sources.train)} images")
    net = start.random_net(spec, config)
    if sources.weights:
        say("Start: " + start.load_what_fits(net, sources.weights))
    elif sources.net_a:
        say("Start: " + start.copy_from_a(net, sources.net_a) + f", the others {config.init}")
    else:
        say(f"Start: all layers {config.init}, seed {config.seed}")
    say(f"Mean RGB subtracted: {', '.join(f'{m:.2f}' for m in preprocessing.mean)}" + ("" if sources.weights else f" (of {colours.images} training images)"))
    return net


def _check_classes(classes: tuple[str, ...], dataset: Dataset, run: Run) -> None:
    if classes != dataset.classes:
        raise InputError(f"{run.last}: was trained on other classes than {dataset.root} has; resume with the --data it was begun with")


def _examples(net: VGG, config: TrainConfig, sources: Sources, machine: Machine, colours: Colours, begin: int) -> Iterator[Examples]:
    """Augmented batches with the mean subtracted, on the device; reports or refuses unreadable images."""
    pre = net.spec.preprocessing
    views = Views(sources.train, config, pre, colours.components())
    mean = torch.tensor(pre.mean, dtype=torch.float32, device=machine.device).view(1, 3, 1, 1)
    unreadable: set[str] = set()
    for batch in train_batches(views, begin, machine.workers, pin=machine.device == "cuda"):
        _report(batch, unreadable, machine)
        if not len(batch.labels):
            raise InputError(f"{sources.train.root}: not one image of a batch of {config.batch} could be read")
        crops, shifts, labels = (t.to(machine.device, non_blocking=True) for t in batch[:3])
        inputs = crops.float() - mean + shifts[:, :, None, None]
        yield Examples(inputs.contiguous(memory_format=torch.channels_last), labels)


def _report(batch: TrainBatch, known: set[str], machine: Machine) -> None:
    """Every unreadable image is an error, or is named and counted once."""
    for message in batch.unreadable:
        if machine.on_error == "stop":
            raise InputError(message)
        if message not in known:
            known.add(message)
            say(f"Left out ({len(known)} so far): {message}")


def _frozen(net: VGG, config: TrainConfig, sources: Sources, machine: Machine, begin: int) -> tuple[Iterator[Examples], Callable[[], Errors]]:
    side = net.spec.test_side
    train, val = (
        frozen.pool5_features(net, dataset, side, machine.device, machine.threads, split)
        for dataset, split in ((sources.train, "train"), (sources.val, "val"))
    )
    batches = frozen.feature_batches(train, sources.train.labels, config, begin, machine.device)
    return batches, frozen.feature_validation(net, val, sources.val.labels, machine.device)


def _dense_validation(net: VGG, dataset: Dataset, machine: Machine) -> Callable[[], Errors]:
    """Errors by dense evaluation at the paper's single scale."""

    def validate() -> Errors:
        runtime = TorchRuntime(net, machine.device, machine.threads)
        place = np.full(len(dataset), -1)
        skipped = []
        scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
        on_bad = (lambda index, error: skipped.append(index)) if machine.on_error == "skip" else None
        with progress("validation", len(dataset)) as bar:
            for batch in size_batches(dataset, {scale: np.ones(len(dataset), bool)}, 32, machine.threads, on_bad):
                place[batch.indices] = ranks(runtime(batch.images).posterior, dataset.labels[batch.indices])
                bar.advance(len(batch.indices))
        place = np.delete(place, skipped)
        return Errors(error_pct(place, 1), error_pct(place, 5))

    return validate
