"""Makes a net's first weights: a random draw, the layers of a trained A, or a file's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from train.recipe.config import TrainConfig
from train.recipe.recipe_options import RecipeOptions
from train.recipe.stages import side_of
from train.record.run_folder import Run
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.box_outputs import USUAL_FORM
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.foreign_weights import Assumed, read_foreign
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import FROM_A, VGG, initialise, start_from_a
from vgg_deploy.net.open_net import foreign_spec, is_own, open_net
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
        boxes=config.box_outputs if config.localises else "",
        box_form=config.box_form if config.localises else USUAL_FORM,
    )


class OptionsOfLocaliser(NamedTuple):
    """What the classification net that a localiser starts from decides.

    Attributes:
        arch: A net of Table 1.
        recipe: The options, with its width, crop and LRN; and with its S unless another is given.
    """

    arch: str
    recipe: RecipeOptions


def options_of_localiser(
    given: RecipeOptions, path: Path, stated: StatedInput
) -> OptionsOfLocaliser:
    """Complete the options of a localiser by the net that it starts from (appendix A).

    Args:
        given: The options.
        path: Checkpoint or foreign file.
        stated: As in `weights_of`.

    Raises:
        InputError: If the file cannot be used, or holds convolutions alone.
    """
    spec = spec_of(path, stated)
    side = given.side or (
        spec.train_side if len(set(spec.train_side)) == 1 else side_of("384", spec.crop)
    )
    lrn = spec.lrn if spec.arch == "A-LRN" else None
    recipe = replace(given, width=spec.width, crop=spec.crop, side=side, lrn=lrn)
    return OptionsOfLocaliser(spec.arch, recipe)


def spec_of(path: Path, stated: StatedInput) -> NetSpec:
    """The record of a net to start from; classes of foreign weights are numbered.

    Args:
        path: Checkpoint or foreign file.
        stated: As in `weights_of`.

    Raises:
        InputError: As `weights_of`, and for convolutions alone.
    """
    if is_own(path):
        return load_checkpoint(path).spec
    return foreign_spec(read_foreign(path, stated=stated), path, None)


def random_net(spec: NetSpec, config: TrainConfig) -> VGG:
    """Make a net whose weights are drawn by the run's seed."""
    net = VGG(spec, config.dropout)
    initialise(net, config.init, torch.Generator().manual_seed(config.seed))
    return net


def load_what_fits(net: VGG, path: Path, stated: StatedInput = NOTHING_STATED) -> str:
    """Copy every layer of a file into a net, fc8 only if it has the same kind of outputs.

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
    weights = weights_of(path, stated)
    same_kind = weights.outputs == (net.spec.boxes, net.spec.box_form)
    for name, tensor in weights.weights.items():
        if name.startswith("fc8") and not (same_kind and own[name].shape == tensor.shape):
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
        outputs: `boxes` and `box_form` of the net's record.
    """

    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    assumed: Assumed | None
    outputs: tuple[str, str] = ("", USUAL_FORM)


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
        spec = checkpoint.spec
        return Weights(checkpoint.weights, spec.preprocessing, None, (spec.boxes, spec.box_form))
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
