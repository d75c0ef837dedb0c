"""Trains one net or a chain of nets: `python -m train`, also installed as `vgg-train`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from train.hints import HINTS
from train.options import option_groups as groups
from train.options.machine_options import MachineOptions, joined_job
from train.options.moved import Moved
from train.options.option_types import Number
from train.options.request import TrainRequest, refuse_contradictions
from train.recipe.config import CLASSIFY
from train.recipe.number_ranges import (
    CHECKPOINT_EVERY,
    DEFAULT_CHECKPOINT_EVERY,
    DEFAULT_STEP_PATIENCE,
    STEP_PATIENCE,
)
from train.recipe.recipe_options import RecipeOptions
from train.recipe.stages import FineTune
from vgg_deploy.command_line import Choice, Command, parse_channels, say, version_option
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
    Channels,
    StatedInput,
)
from vgg_deploy.net.weights_names import WEIGHTS

WITH_RESUME = {  # parameters that go with --resume, because they are not part of the recipe
    "resume",
    "plan_only",
    "data",
    "boxes",
    "micro_batch",
    *(field.name for field in fields(MachineOptions)),
}


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    examples=(
        ("python -m train --arch A", "a thin net on the built-in images"),
        ("python -m train --arch D --data /data/imagenet", "the paper's recipe"),
        (
            "python -m train --weights vgg16.pth --freeze-features --data photos",
            "a new head on trained convolutions",
        ),
        (
            "python -m train --task localise --weights runs/D/best.pt --data photos --boxes xml",
            "boxes of objects, from a trained classifier",
        ),
        (
            "python -m train --arch all --chain paper --data /data/imagenet",
            "all nets of Table 3 in stages",
        ),
        ("python -m train --resume", "the newest run or chain"),
    ),
)
@groups.net_options
@click.option(
    "--plan",
    "plan_only",
    is_flag=True,
    help="Now python -m train.plan: show the chain's stages; train nothing.",
)
@groups.data_option("; with --resume the folder to which the run's own images were moved")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New folder of the run, or folder of the chain.  "
    "[default: runs/<arch>-S<side>-<time>, runs/<chain>]",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="newest",
    metavar="[RUN]",
    help="Resume the run or chain in this folder, or the newest.",
)
@click.option(
    "--weights",
    type=WEIGHTS,
    help="Start from this checkpoint, torchvision, timm or Caffe-layout file, folder with "
    "config.json, or torchvision:vgg16, timm:vgg16.tv_in1k, hf-hub:OWNER/NAME, https://...",
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option(
    "--net-a",
    type=WEIGHTS,
    help="Start B-E from this trained A.  [default: the newest finished run of A that fits]",
)
@click.option(
    "--freeze-features",
    is_flag=True,
    help="Train fc6-fc8 only, on features of --weights that are computed once: training images' "
    "centre crops, whole validation images.",
)
@groups.localise_options
@groups.recipe_options
@groups.fine_tune_options
@groups.images_option
@groups.exif_option
@groups.device_option
@groups.threads_option
@groups.workers_option
@click.option("--compile", "compiled", is_flag=True, help="Run updates through torch.compile.")
@click.option(
    "--checkpoint-every",
    type=Number(CHECKPOINT_EVERY),
    default=DEFAULT_CHECKPOINT_EVERY,
    help="Updates between checkpoints; the end of an epoch always makes one.",
)
@click.option(
    "--step-patience",
    type=Number(STEP_PATIENCE),
    default=DEFAULT_STEP_PATIENCE,
    metavar="SECONDS",
    help="Longest wait for a loader or decoding process; then the run ends and names it. Processes "
    "of torchrun wait 5 s more for each other in an update.",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write losses and errors for TensorBoard, into the run's folder.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="OUT.png",
    help="Now python -m train.views: draw some augmented crops; train nothing.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Now python -m train.plot: draw the curves of a run or chain; train nothing.",
)
@groups.on_error_option
@version_option
@click.pass_context
@hints(HINTS)
@interruptible("what was saved before is kept; run the same command again")
def main(
    ctx: click.Context,
    /,
    arch: str,
    chain: str | None,
    stage: str | None,
    plan_only: bool,
    data: str | None,
    out: Path | None,
    resume: str | None,
    weights: Path | str | None,
    mean: Channels | None,
    std: Channels | None,
    channel_order: str | None,
    net_a: Path | str | None,
    freeze_features: bool,
    fine_tune_epochs: int | None,
    fine_tune_lr: float | None,
    images: int | None,
    exif: str,
    device: str | None,
    threads: int | None,
    workers: int | None,
    compiled: bool,
    checkpoint_every: int,
    step_patience: int,
    tensorboard: bool,
    picture: Path | None,
    plot: Path | None,
    on_error: str,
    task: str,
    boxes: str | None,
    box_coordinates: str | None,
    **recipe: Any,  # fields of RecipeOptions, checked by the types of their options
) -> None:
    """Train a net of Table 1 by the paper's recipe.

    For example: python -m train --arch D --data /data/imagenet

    Without --data a thin net learns the built-in images by a small recipe that fits two cores. On
    several GPUs or machines:
    torchrun --nproc-per-node 8 -m train --arch D --data /data/imagenet --out runs/D
    """
    if resume:
        _refuse_options_of_the_recipe(ctx)
    arch_given = ctx.get_parameter_source("arch") is ParameterSource.COMMANDLINE
    request = TrainRequest(
        # a localiser has the net of its weights
        arch=arch if arch_given or task == CLASSIFY else "",
        chain=chain or ("one-scale" if arch == "all" else None),
        stage=stage,
        data=data,
        out=out,
        weights=weights,
        net_a=net_a,
        freeze_features=freeze_features,
        images=images,
        recipe=RecipeOptions(**recipe),
        fine_tune=FineTune(fine_tune_epochs, fine_tune_lr),
        stated=StatedInput(mean, std, channel_order),
        exif=exif,
        task=task,
        boxes=boxes,
        box_coordinates=box_coordinates,
    )
    refuse_contradictions(request, plan_only, resumed=resume is not None)
    machine = MachineOptions(
        device,
        threads,
        workers,
        on_error,
        compiled,
        checkpoint_every,
        tensorboard,
        step_patience,
    )
    if plot:
        _recommend("train.plot RUN", "--plot")
        _plot(plot)
    else:
        _train(request, machine, resume, plan_only, picture)


def _train(
    request: TrainRequest,
    machine: MachineOptions,
    resume: str | None,
    plan_only: bool,
    picture: Path | None,
) -> None:
    """Do what is asked for, in the processes of the job."""
    with joined_job(machine) as settings, hints(HINTS):
        from train import command

        if picture:
            _recommend("train.views OUT.png", "--picture")
            command.draw_views_of(request, picture, settings)
        elif plan_only:
            _recommend("train.plan", "--plan")
            command.plan(request, resume, settings)
        elif resume:
            moved = Moved(request.data, request.boxes)
            command.resume(resume, moved, request.recipe.micro_batch, settings)
        else:
            command.train(request, settings)


def _plot(folder: Path) -> None:
    from train.record.report_curves import check_matplotlib, curves_line

    check_matplotlib()
    say(f"Curves: {curves_line(folder)}")


def _recommend(module: str, option: str) -> None:
    """Name the command that replaces an option, which keeps working."""
    say(f"{option}: there is a command for it now: python -m {module}", err=True)


def _refuse_options_of_the_recipe(ctx: click.Context) -> None:
    """Refuse, with --resume, what the run's own recipe determines.

    Raises:
        click.UsageError: Names the options.
    """
    given = {
        name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    flags = sorted(
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in given - WITH_RESUME
    )
    if flags:
        raise click.UsageError(f"--resume uses the run's own recipe; leave {', '.join(flags)} out")


if __name__ == "__main__":
    main(prog_name="python -m train")
