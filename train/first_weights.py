"""Where a net's first weights come from: a random draw, the layers of a trained A, or a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from train.recipe.config import TrainConfig
from train.record.run_folder import Run
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.foreign_weights import Assumed, read_foreign
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import FROM_A, VGG, initialise, start_from_a
from vgg_deploy.net.open_net import is_own, open_net
from vgg_deploy.net.spec import NetSpec, Preprocessing
from vgg_deploy.newest import newest_first


def describe(
    config: TrainConfig, dataset: Dataset, preprocessing: Preprocessing, recipe: str
) -> NetSpec:
    """The net that this run will train."""
    return NetSpec(
        config.arch,
        dataset.classes,
        dataset.names,
        config.width,
        config.crop,
        config.lrn,
        preprocessing,
        config.side,
        recipe,
    )


def random_net(spec: NetSpec, config: TrainConfig) -> VGG:
    """A net with weights drawn by the run's seed."""
    net = VGG(spec, config.dropout)
    initialise(net, config.init, torch.Generator().manual_seed(config.seed))
    return net


def load_what_fits(net: VGG, path: Path, stated: StatedInput = NOTHING_STATED) -> str:
    """Copy every layer of `path` into `net`, fc8 only when its classes agree; say what was copied.

    Raises: InputError if a layer has another shape.
    """
    held = weights_of(path, stated).weights
    own = net.state_dict()
    copied = set()
    for name, tensor in held.items():
        if name.startswith("fc8") and own[name].shape != tensor.shape:
            continue
        if name not in own or own[name].shape != tensor.shape:
            wanted = tuple(own[name].shape) if name in own else "no such layer"
            raise InputError(
                f"{path}: {name} is {tuple(tensor.shape)}, net {net.spec.arch} wants {wanted}; give the --arch, --width and --crop it has"
            )
        own[name].copy_(tensor)
        copied.add(name.split(".")[0])
    fresh = [
        name
        for name, module in net.named_children()
        if name not in copied and hasattr(module, "weight")
    ]
    return f"{len(copied)} layers from {path}" + (
        f", {', '.join(fresh)} start random" if fresh else ""
    )


class Weights(NamedTuple):
    """What a file gives to start from."""

    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    assumed: Assumed | None  # of weights of another project


def weights_of(path: Path, stated: StatedInput = NOTHING_STATED) -> Weights:
    """Weights and preprocessing of a checkpoint or of a foreign file, which may lack fc6-fc8.

    Args:
        stated: What the user says of a foreign file's input.

    Raises:
        InputError: If the file cannot be used, or is a checkpoint and an input is stated.
    """
    if is_own(path):
        if not stated.is_empty:
            raise InputError(
                f"{path}: a checkpoint knows its own input; leave --mean, --std and --channel-order out"
            )
        checkpoint = load_checkpoint(path)
        return Weights(checkpoint.weights, checkpoint.spec.preprocessing, None)
    foreign = read_foreign(path, stated=stated)
    return Weights(foreign.weights, foreign.preprocessing, foreign.assumed)


def copy_from_a(net: VGG, path: Path) -> str:
    """Start from a trained A as section 3.1; say what was copied.

    Raises: InputError if the file is no A of the same width, crop and classes.
    """
    net_a = open_net(path)
    if net_a.spec.arch not in ("A", "A-LRN"):
        raise InputError(f"{path}: is net {net_a.spec.arch}; --net-a wants a trained A")
    if not fits(net_a.spec, net.spec):
        raise InputError(
            f"{path}: this A has another width, crop or classes than the {net.spec.arch} to train; train an A with the same options"
        )
    start_from_a(net, net_a)
    return f"{', '.join(FROM_A)} from {path}"


def fits(spec_a: NetSpec, spec: NetSpec) -> bool:
    """Whether an A's layers have the shapes of a deeper net's."""
    return replace(
        spec_a,
        arch=spec.arch,
        preprocessing=spec.preprocessing,
        train_side=spec.train_side,
        recipe="",
        lrn=spec.lrn,
    ) == replace(spec, recipe="")


def newest_fitting_a(
    runs: Path,
    spec: NetSpec,
    passed_over: Callable[[Path], None],
    unreadable: Callable[[str], None],
) -> Path | None:
    """best.pt of the newest run that trained a fitting A to its end.

    Args:
        runs: The folder of all runs.
        spec: Of the net that would start from it.
        passed_over: Called with a fitting A whose run did not end.
        unreadable: Called with what is wrong with a checkpoint that cannot be read.
    """
    for path in newest_first(runs, "best.pt"):
        try:
            held = load_checkpoint(path).spec
        except InputError as error:
            unreadable(error.message)
            continue
        if held.arch != "A" or not fits(held, spec):
            continue
        if Run(path.parent).cut_off():
            passed_over(path)
            continue
        return path
    return None
