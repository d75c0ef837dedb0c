"""Makes a net's first weights: a random draw, the layers of a trained A, or a file's."""

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
    """Describe the net that a run trains.

    Args:
        config: The recipe.
        dataset: Names the classes.
        preprocessing: Of the net's input.
        recipe: How the weights come to be, for people.
    """
    return NetSpec(
        arch=config.arch,
        classes=dataset.classes,
        names=dataset.names,
        width=config.width,
        crop=config.crop,
        lrn=config.lrn,
        preprocessing=preprocessing,
        train_side=config.side,
        recipe=recipe,
    )


def random_net(spec: NetSpec, config: TrainConfig) -> VGG:
    """Make a net whose weights are drawn by the run's seed."""
    net = VGG(spec, config.dropout)
    initialise(net, config.init, torch.Generator().manual_seed(config.seed))
    return net


def load_what_fits(net: VGG, path: Path, stated: StatedInput = NOTHING_STATED) -> str:
    """Copy every layer of a file into a net, fc8 only if its classes agree.

    Args:
        net: Gets the layers.
        path: Checkpoint or foreign file.
        stated: As in `weights_of`.

    Returns:
        What was copied, for people.

    Raises:
        InputError: If a layer has another shape.
    """
    own = net.state_dict()
    copied = set()
    for name, tensor in weights_of(path, stated).weights.items():
        if name.startswith("fc8") and own[name].shape != tensor.shape:
            continue
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "no such layer"
            raise InputError(
                f"{path}: {name} is {tuple(tensor.shape)}, net {net.spec.arch} expects {expected}; "
                "give the --arch, --width and --crop it has"
            )
        own[name].copy_(tensor)
        copied.add(name.split(".")[0])
    layers = [name for name, module in net.named_children() if hasattr(module, "weight")]
    random = [name for name in layers if name not in copied]
    rest = f", {', '.join(random)} start random" if random else ""
    return f"{len(copied)} layers from {path}{rest}"


class Weights(NamedTuple):
    """What a file gives to start from.

    Attributes:
        weights: By name; float32.
        preprocessing: Of the net's input.
        assumed: What was taken for granted about another project's weights; None for a checkpoint.
    """

    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    assumed: Assumed | None


def weights_of(path: Path, stated: StatedInput = NOTHING_STATED) -> Weights:
    """Read weights and preprocessing of a checkpoint or of a foreign file.

    Args:
        path: The file; a foreign one may lack fc6-fc8.
        stated: What the user says of a foreign file's input.

    Raises:
        InputError: If the file cannot be used, or is a checkpoint and an input is stated.
    """
    if is_own(path):
        if not stated.is_empty:
            raise InputError(
                f"{path}: a checkpoint knows its own input; "
                "leave --mean, --std and --channel-order out"
            )
        checkpoint = load_checkpoint(path)
        return Weights(checkpoint.weights, checkpoint.spec.preprocessing, None)
    foreign = read_foreign(path, stated=stated)
    return Weights(foreign.weights, foreign.preprocessing, foreign.assumed)


def copy_from_a(net: VGG, path: Path) -> str:
    """Copy the layers of a trained A that a deeper net starts from (section 3.1).

    Args:
        net: Gets the layers.
        path: Checkpoint of the A.

    Returns:
        What was copied, for people.

    Raises:
        InputError: If the file is no A of the same width, crop and classes.
    """
    net_a = open_net(path)
    if net_a.spec.arch not in ("A", "A-LRN"):
        raise InputError(f"{path}: is net {net_a.spec.arch}; --net-a takes a trained A")
    if not fits(net_a.spec, net.spec):
        raise InputError(
            f"{path}: this A has another width, crop or classes than the {net.spec.arch} to train; "
            "train an A with the same options"
        )
    start_from_a(net, net_a)
    return f"{', '.join(FROM_A)} from {path}"


def fits(spec_a: NetSpec, spec: NetSpec) -> bool:
    """Whether an A's layers have the shapes of a deeper net's."""
    as_deeper = replace(
        spec_a,
        arch=spec.arch,
        preprocessing=spec.preprocessing,
        train_side=spec.train_side,
        recipe="",
        lrn=spec.lrn,
    )
    return as_deeper == replace(spec, recipe="")


def newest_fitting_a(
    runs: Path,
    spec: NetSpec,
    on_unfinished: Callable[[Path], None],
    on_unreadable: Callable[[str], None],
) -> Path | None:
    """Find best.pt of the newest run that trained a fitting A to its end.

    Args:
        runs: The folder of all runs.
        spec: Of the net that would start from it.
        on_unfinished: Called with a fitting A whose run did not end.
        on_unreadable: Called with what is wrong with a checkpoint that cannot be read.

    Returns:
        The checkpoint; None if there is none.
    """
    for path in newest_first(runs, "best.pt"):
        try:
            spec_a = load_checkpoint(path).spec
        except InputError as error:
            on_unreadable(error.message)
            continue
        if spec_a.arch != "A" or not fits(spec_a, spec):
            continue
        if Run(path.parent).is_unfinished():
            on_unfinished(path)
            continue
        return path
    return None
