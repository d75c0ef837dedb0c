"""python -m train: options to a config, one call a net or a chain."""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from train.hints import HINTS
from train.recipe.config import INITS, PRECISIONS, TRAIN_SCENES
from train.recipe.number_ranges import CHECKPOINT_EVERY, IMAGES, RECIPE_LIMITS, processes
from train.recipe.stages import CHAINS
from train.recipe_options import Number, parse_drops, parse_side, recipe_option
from vgg_deploy.command_line import Command, parse_channels
from vgg_deploy.errors import hints, interruptible
from vgg_deploy.machine import available_cores
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.input_convention import (
    CHANNEL_ORDERS,
    MEAN_HELP,
    ORDER_HELP,
    STD_HELP,
    StatedInput,
)

FOR_RESUME = {  # options that are not part of the recipe
    "resume",
    "plan_only",
    "data",
    "device",
    "threads",
    "workers",
    "compiled",
    "checkpoint_every",
    "tensorboard",
    "on_error",
}
CORES = available_cores()


@click.command(cls=Command, context_settings={"show_default": True})
@click.option(
    "--arch",
    default="D",
    type=click.Choice((*ARCHS, "all")),
    help="Net of Table 1, or all of them.",
)
@click.option(
    "--chain",
    type=click.Choice(tuple(CHAINS)),
    help="Train in stages that start from each other: paper, section 3.1 at S=256, 384 and "
    "[256;512]; "
    "glorot, the same without an A first; one-scale, A and the others from it.  [default for "
    "all: one-scale]",
)
@click.option(
    "--stage",
    help="Of the chain: only this one, e.g. D-384; it starts from what is trained already.",
)
@click.option(
    "--plan",
    "plan_only",
    is_flag=True,
    help="Show the chain's stages, what is done and the time the rest takes; train nothing.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Folder with train/<class>/* and val/<class>/*, or tar shards; with --resume the new "
    "place of the run's "
    "own images.  [default: built-in images]",
)
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
    type=click.Path(path_type=Path),
    help="Start from this checkpoint, torchvision, timm or Caffe-layout file.",
)
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option(
    "--net-a",
    type=click.Path(path_type=Path),
    help="Start B-E from this trained A.  [default: the newest finished run of A that fits]",
)
@click.option(
    "--freeze-features",
    is_flag=True,
    help="Train fc6-fc8 only, on features of --weights that are computed once: training images' "
    "centre crops, "
    "whole validation images.",
)
@recipe_option(
    "--init",
    type=click.Choice(INITS),
    help="How layers that start random are drawn; if given, B-E do not start from the newest A.",
)
@recipe_option(
    "--side",
    callback=parse_side,
    metavar="S|LOW:HIGH",
    help="S, the shorter image side in training, pixels.",
)
@recipe_option("--crop", help="Training crop, pixels, a multiple of 32.")
@recipe_option("--width", help="Multiplier of every layer's channels.")
@recipe_option(
    "--lrn",
    type=click.Choice(("alexnet", "caffe")),
    help="A-LRN: alpha as in AlexNet's formula, or divided by the window.",
)
@recipe_option("--epochs", help="Passes over the training images.")
@recipe_option("--batch", help="Images per update, over all processes.")
@recipe_option("--lr", help="First learning rate.")
@recipe_option(
    "--lr-drops",
    callback=parse_drops,
    metavar="plateau|E,E",
    help="When the rate is divided by 10: on a plateau, or after each of these epochs.",
)
@recipe_option("--most-drops", help="Most divisions by 10 on plateaus.")
@recipe_option(
    "--patience", help="Epochs without a better validation top-1 error that make a plateau."
)
@click.option(
    "--fine-tune-epochs",
    type=Number(RECIPE_LIMITS["epochs"]),
    help="Epochs of a chain's stages at 384 and jitter.  [default: half of --epochs]",
)
@click.option(
    "--fine-tune-lr",
    type=Number(RECIPE_LIMITS["lr"]),
    help="First learning rate of these stages.  [default: a tenth of --lr]",
)
@recipe_option(
    "--weight-decay", help="L2 penalty on weights: this times w is added to the gradient."
)
@recipe_option("--bias-decay", help="L2 penalty on biases, likewise.")
@recipe_option("--bias-lr", help="Learning rate of biases, as a multiple of that of weights.")
@recipe_option("--dropout", help="Share of fc6's and fc7's outputs set to zero in each update.")
@recipe_option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of convolutions and products; weights and updates stay float32.",
)
@click.option("--compile", "compiled", is_flag=True, help="Run updates through torch.compile.")
@click.option(
    "--images",
    type=Number(IMAGES),
    help="Use this many training images, spread evenly (built-in: render this many).  "
    f"[default: all; for the built-in images {TRAIN_SCENES}]",
)
@recipe_option(
    "--shuffle-buffer",
    help="Tar shards: images held in memory to shuffle from, over all processes and --streams.",
)
@recipe_option(
    "--streams",
    help="Tar shards: parts of the data read at the same time, over all processes; "
    "divides --batch.",
)
@recipe_option("--seed", help="Of weights, order, augmentation and dropout.")
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda if there is one]"
)
@click.option(
    "--threads",
    type=Number(processes(CORES, 1)),
    help="CPU threads, and as many processes that decode for validation.  "
    "[default: this process's share of the cores]",
)
@click.option(
    "--workers",
    type=Number(processes(CORES, 0)),
    help="Loader processes per process.  [default: as --threads]",
)
@click.option(
    "--checkpoint-every",
    type=Number(CHECKPOINT_EVERY),
    default=1000,
    help="Updates between checkpoints; the end of an epoch always makes one.",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write losses and errors for TensorBoard, into the run's folder.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Draw some augmented crops to this PNG, to check by eye; train nothing.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Draw the curves of a run's or chain's folder; train nothing.",
)
@click.option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    help="Stop at an unreadable image, or skip it, name it and count it.",
)
@click.pass_context
@hints(HINTS)
@interruptible("what was saved before is kept")
def main(
    ctx,
    arch,
    chain,
    stage,
    plan_only,
    data,
    out,
    resume,
    weights,
    mean,
    std,
    channel_order,
    net_a,
    freeze_features,
    fine_tune_epochs,
    fine_tune_lr,
    compiled,
    images,
    device,
    threads,
    workers,
    checkpoint_every,
    tensorboard,
    picture,
    plot,
    on_error,
    **recipe,
):
    """Train a net of Table 1 by the paper's recipe: python -m train --arch D --data /data/imagenet

    Without --data a thin net learns the built-in images by a small recipe that fits two cores. On
    several GPUs or
    machines: torchrun --nproc-per-node 8 -m train --arch D --data /data/imagenet --out runs/D
    """
    chain = chain or ("one-scale" if arch == "all" else None)
    if resume and (given := _given(ctx) - FOR_RESUME):
        flags = sorted(
            parameter.opts[0] for parameter in ctx.command.params if parameter.name in given
        )
        raise click.UsageError(
            f"--resume goes on with the run's own recipe; leave {', '.join(flags)} out"
        )
    if (stage or plan_only or fine_tune_epochs or fine_tune_lr is not None) and not (
        chain or resume
    ):
        raise click.UsageError(
            "--stage, --plan, --fine-tune-epochs and --fine-tune-lr belong to a chain; add "
            "--chain paper"
        )
    if chain and (weights or net_a or freeze_features):
        raise click.UsageError(
            "a chain's stages start from each other; leave --weights, --net-a and "
            "--freeze-features out"
        )
    if chain in ("paper", "glorot") and recipe["side"]:
        raise click.UsageError(f"the chain {chain} fixes S by its stages; leave --side out")
    if chain == "glorot" and recipe["init"] not in (None, "glorot"):
        raise click.UsageError("the chain glorot fixes how layers are drawn; leave --init out")
    stated = StatedInput(mean, std, channel_order)
    if not (weights or stated.is_empty):
        raise click.UsageError(
            "--mean, --std and --channel-order describe the weights to start from; add --weights"
        )
    if plot:
        from train.record.curves import draw_curves

        click.echo(f"Curves: {draw_curves(plot)}")
        return
    # waiting threads must sleep, not spin: the loader's processes need the same cores (read when
    # torch is imported)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from train.command import TrainRequest, go_on, train
    from train.recipe.stages import FineTune
    from train.session import RunSettings
    from vgg_deploy.job import joined
    from vgg_deploy.machine import pick_device

    device = pick_device(device)
    with joined(device) as job, hints(HINTS):
        if tensorboard:
            from train.record.tensorboard import check_installed

            job.on_main(check_installed)
        threads = threads or max(1, CORES // job.local_world)
        place = RunSettings(
            device,
            threads,
            threads if workers is None else workers,
            on_error,
            compiled,
            checkpoint_every,
            tensorboard,
            job,
        )
        if resume:
            go_on(resume, plan_only, data, place)
        else:
            train(
                TrainRequest(
                    arch,
                    chain,
                    stage,
                    plan_only,
                    data,
                    out,
                    weights,
                    net_a,
                    freeze_features,
                    images,
                    FineTune(fine_tune_epochs, fine_tune_lr),
                    recipe,
                    picture,
                    stated,
                ),
                place,
            )


def _given(ctx: click.Context) -> set[str]:
    """Names of the parameters that the command line has."""
    return {
        name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


if __name__ == "__main__":
    main(prog_name="python -m train")
