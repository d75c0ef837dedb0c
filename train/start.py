"""Where a net's first weights come from: a random draw, the layers of a trained A, or a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from train.config import TrainConfig
from train.run import Run
from vgg_deploy.checkpoint import is_checkpoint_file, load_checkpoint
from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.model import FROM_A, VGG, initialise, start_from_a
from vgg_deploy.nets import open_net
from vgg_deploy.places import newest_first
from vgg_deploy.spec import NetSpec, Preprocessing
from vgg_deploy.weights import read_foreign


def describe(config: TrainConfig, dataset: Dataset, preprocessing: Preprocessing, recipe: str) -> NetSpec:
    """The net that this run will train."""
    return NetSpec(
        config.arch, dataset.classes, dataset.names, config.width, config.crop, config.lrn, preprocessing, config.side, recipe
    )


def random_net(spec: NetSpec, config: TrainConfig) -> VGG:
    """A net with weights drawn by the run's seed."""
    net = VGG(spec, config.dropout)
    initialise(net, config.init, torch.Generator().manual_seed(config.seed))
    return net


def load_what_fits(net: VGG, path: Path) -> str:
    """Copy every layer of `path` into `net`, fc8 only when its classes agree; say what was copied.

    Raises: InputError if a layer has another shape.
    """
    held = weights_of(path)[0]
    own = net.state_dict()
    copied = set()
    for name, tensor in held.items():
        if name.startswith("fc8") and own[name].shape != tensor.shape:
            continue
        if name not in own or own[name].shape != tensor.shape:
            wanted = tuple(own[name].shape) if name in own else "no such layer"
            raise InputError(f"{path}: {name} is {tuple(tensor.shape)}, net {net.spec.arch} wants {wanted}; give the --arch, --width and --crop it has")
        own[name].copy_(tensor)
        copied.add(name.split(".")[0])
    fresh = [name for name, module in net.named_children() if name not in copied and hasattr(module, "weight")]
    return f"{len(copied)} layers from {path}" + (f", {', '.join(fresh)} start random" if fresh else "")


def weights_of(path: Path) -> tuple[dict, Preprocessing]:
    """Weights and preprocessing of a checkpoint or of a foreign file, which may lack fc6-fc8."""
    if path.suffix in (".pt", ".pth") and is_checkpoint_file(path):
        checkpoint = load_checkpoint(path)
        return checkpoint.weights, checkpoint.spec.preprocessing
    foreign = read_foreign(path)
    return foreign.weights, foreign.preprocessing


def copy_from_a(net: VGG, path: Path) -> str:
    """Start from a trained A as section 3.1; say what was copied.

    Raises: InputError if the file is no A of the same width, crop and classes.
    """
    net_a = open_net(path)
    if net_a.spec.arch not in ("A", "A-LRN"):
        raise InputError(f"{path}: is net {net_a.spec.arch}; --net-a wants a trained A")
    if not fits(net_a.spec, net.spec):
        raise InputError(f"{path}: this A has another width, crop or classes than the {net.spec.arch} to train; train an A with the same options")
    start_from_a(net, net_a)
    return f"{', '.join(FROM_A)} from {path}"


def fits(spec_a: NetSpec, spec: NetSpec) -> bool:
    """Whether an A's layers have the shapes of a deeper net's."""
    return replace(spec_a, arch=spec.arch, preprocessing=spec.preprocessing, train_side=spec.train_side, recipe="", lrn=spec.lrn) == replace(spec, recipe="")


def newest_fitting_a(runs: Path, spec: NetSpec, passed_over: Callable[[Path], None]) -> Path | None:
    """best.pt of the newest run that trained a fitting A to its end. Args: passed_over, called with those of runs that did not."""
    for path in newest_first(runs, "best.pt"):
        held = load_checkpoint(path).spec
        if held.arch != "A" or not fits(held, spec):
            continue
        if Run(path.parent).cut_off():
            passed_over(path)
            continue
        return path
    return None
