"""Defines what the training commands are asked for, and refuses options that contradict."""

from dataclasses import dataclass, field
from pathlib import Path

import click

from train.recipe.config import CLASSIFY, LOCALISE
from train.recipe.recipe_options import RecipeOptions
from train.recipe.stages import FineTune
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput


@dataclass(frozen=True)
class TrainRequest:
    """The options of a training, as their help describes them.

    Attributes:
        arch: A net of Table 1, or "all".
        chain: A key of `CHAINS`; None to train one net.
        stage: The chain's only stage to train.
        data: Folder or URL of the images; None for the built-in ones.
        out: Folder of the run or chain.
        weights: What all layers start from: a file, a folder, or a name of weights.
        net_a: Trained A that B-E start from, given alike.
        freeze_features: Train fc6-fc8 only.
        images: Number of training images to use.
        recipe: Changes to the recipe.
        fine_tune: Of a chain's stages that train the same net further.
        stated: The input convention of `weights`.
        exif: What is done with the EXIF rotation of the images of `data`, "ignore" or "apply".
        task: One of `TASKS`.
        boxes: Annotations of `data`, for a localiser.
        box_coordinates: What their coordinates mean; None for the usual.
    """

    arch: str = "D"
    chain: str | None = None
    stage: str | None = None
    data: str | None = None
    out: Path | None = None
    weights: Path | str | None = None
    net_a: Path | str | None = None
    freeze_features: bool = False
    images: int | None = None
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    fine_tune: FineTune = FineTune()
    stated: StatedInput = NOTHING_STATED
    exif: str = "ignore"
    task: str = CLASSIFY
    boxes: str | None = None
    box_coordinates: str | None = None

    @property
    def localises(self) -> bool:
        """Whether a net is trained that states boxes."""
        return self.task == LOCALISE


def refuse_contradictions(request: TrainRequest, plan_only: bool, resumed: bool) -> None:
    """Refuse options that do not go together.

    Args:
        request: As parsed.
        plan_only: Whether the plan of a chain is asked for.
        resumed: Whether the options of an earlier run apply.

    Raises:
        click.UsageError: Names the options.
    """
    chain = request.chain
    if request.localises and (chain or request.net_a):
        raise click.UsageError(
            "a localiser starts from the classification net of --weights; leave --chain and "
            "--net-a out"
        )
    of_a_chain = request.stage or plan_only or request.fine_tune != FineTune()
    if of_a_chain and not (chain or resumed):
        raise click.UsageError(
            "--stage, --plan, --fine-tune-epochs and --fine-tune-lr belong to a chain; add "
            "--chain paper"
        )
    if chain and (request.weights or request.net_a or request.freeze_features):
        raise click.UsageError(
            "a chain's stages start from each other; leave --weights, --net-a and "
            "--freeze-features out"
        )
    if chain in ("paper", "glorot") and request.recipe.side:
        raise click.UsageError(f"the chain {chain} fixes S by its stages; leave --side out")
    if chain == "glorot" and request.recipe.init not in (None, "glorot"):
        raise click.UsageError("the chain glorot fixes how layers are drawn; leave --init out")
    if not (request.weights or request.stated.is_empty):
        raise click.UsageError(
            "--mean, --std and --channel-order describe the weights to start from; add --weights"
        )
    if request.localises:
        _refuse_for_a_localiser(request, resumed)
    elif not resumed:
        _refuse_options_of_boxes(request)


def _refuse_for_a_localiser(request: TrainRequest, resumed: bool) -> None:
    recipe = request.recipe
    if not (request.weights or resumed):
        raise click.UsageError(
            "--task localise starts from a trained classification net; add --weights FILE"
        )
    if request.arch or recipe.width or recipe.crop or recipe.lrn:
        raise click.UsageError(
            "a localiser is the net of --weights with another last layer; leave --arch, --width, "
            "--crop and --lrn out"
        )
    if request.data and not request.boxes:
        raise click.UsageError(
            "--task localise needs to know where the objects of --data are; add --boxes ANNOTATIONS"
        )
    if request.boxes and not request.data:
        raise click.UsageError(
            "--boxes are of the images of --data, and the built-in images know their own; add "
            "--data, or leave --boxes out"
        )


def _refuse_options_of_boxes(request: TrainRequest) -> None:
    recipe = request.recipe
    if request.boxes or request.box_coordinates or recipe.box_outputs or recipe.box_form:
        raise click.UsageError(
            "--boxes, --box-coordinates, --box-outputs and --box-form are about a localiser; add "
            "--task localise"
        )
