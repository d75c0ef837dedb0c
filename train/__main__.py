"""python -m train: options to a config, one call a net or a chain."""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from vgg_deploy.convention import CHANNEL_ORDERS, MEAN_HELP, ORDER_HELP, STD_HELP, StatedInput, parse_channels
from vgg_deploy.errors import interruptible

ARCH_NAMES = ("A", "A-LRN", "B", "C", "D", "E")
CHAIN_NAMES = ("paper", "glorot", "one-scale")
INIT_NAMES = ("paper-std", "paper-var", "glorot", "he")
PRECISION_NAMES = ("fp32", "bf16", "fp16")
FOR_RESUME = {"resume", "plan_only", "device", "threads", "workers", "compiled", "checkpoint_every", "tensorboard", "on_error"}  # none is of the recipe


def parse_side(ctx, param, text: str | None) -> tuple[int, int] | None:
    """256 -> (256, 256); 256:512 -> (256, 512)"""
    if text is None:
        return None
    try:
        low, _, high = text.partition(":")
        return int(low), int(high or low)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a size or a range; write 256 or 256:512") from None


def parse_drops(ctx, param, text: str | None) -> tuple[int, ...] | None:
    """plateau -> (); 50,65 -> (50, 65)"""
    if text is None:
        return None
    try:
        return () if text == "plateau" else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither `plateau` nor a list of epochs such as 50,65") from None


@click.command(context_settings={"show_default": True})
@click.option("--arch", default="D", type=click.Choice((*ARCH_NAMES, "all")), help="Net of Table 1, or all of them.")
@click.option("--chain", type=click.Choice(CHAIN_NAMES), help="Train in stages that start from each other: paper, section 3.1 at S=256, 384 and [256;512]; "
              "glorot, the same without an A first; one-scale, A and the others from it.  [default for all: one-scale]")  # fmt: skip
@click.option("--stage", help="Of the chain: only this one, e.g. D-384; it starts from what is trained already.")
@click.option("--plan", "plan_only", is_flag=True, help="Show the chain's stages, what is done and the time the rest takes; train nothing.")
@click.option("--data", type=click.Path(), help="Folder with train/<class>/* and val/<class>/*, or tar shards. Without it: built-in pictures.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run or chain.  [default: runs/<arch>-S<side>-<time>, runs/<chain>]")
@click.option("--resume", is_flag=False, flag_value="newest", metavar="[RUN]", help="Go on with the folder of a run or chain, or with the newest.")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from this checkpoint, torchvision, timm or Caffe-layout file.")
@click.option("--mean", callback=parse_channels, metavar="R,G,B", help=MEAN_HELP)
@click.option("--std", callback=parse_channels, metavar="R,G,B", help=STD_HELP)
@click.option("--channel-order", type=click.Choice(CHANNEL_ORDERS), help=ORDER_HELP)
@click.option("--net-a", type=click.Path(path_type=Path), help="Start B-E from this trained A.  [default: the newest whole run of A that fits]")
@click.option("--freeze-features", is_flag=True, help="Train fc6-fc8 only, on features of --weights computed once.")
@click.option("--init", type=click.Choice(INIT_NAMES), help="How layers that start random are drawn; named, it also keeps B-E from the newest A.")
@click.option("--side", "side", callback=parse_side, metavar="S|LOW:HIGH", help="Shorter image side in training, pixels.")
@click.option("--crop", type=int, help="Training crop, pixels, a multiple of 32.")
@click.option("--width", type=float, help="Multiplier of every layer's channels.")
@click.option("--lrn", type=click.Choice(("alexnet", "caffe")), help="A-LRN: alpha as in AlexNet's formula, or divided by the window.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch", type=int, help="Images an update, of all processes together.")
@click.option("--lr", type=float, help="First learning rate.")
@click.option("--lr-drops", callback=parse_drops, metavar="plateau|E,E", help="When the rate is divided by 10: on a plateau, or after these epochs.")
@click.option("--most-drops", type=int, help="How often at the most.")
@click.option("--patience", type=int, help="Epochs without a better validation top-1 error that make a plateau.")
@click.option("--fine-tune-epochs", type=click.IntRange(1), help="Of a chain's stages at 384 and jitter.  [default: half of --epochs]")
@click.option("--fine-tune-lr", type=float, help="First learning rate of these stages.  [default: a tenth of --lr]")
@click.option("--weight-decay", type=float, help="L2 on weights.")
@click.option("--bias-decay", type=float, help="L2 on biases.")
@click.option("--bias-lr", type=float, help="Learning rate of biases, times that of weights.")
@click.option("--dropout", type=float, help="Share of fc6's and fc7's outputs that an update leaves out.")
@click.option("--precision", type=click.Choice(PRECISION_NAMES), help="Of convolutions and products; weights and updates stay float32.")
@click.option("--compile", "compiled", is_flag=True, help="Run updates through torch.compile.")
@click.option("--images", type=click.IntRange(1), help="Use so many training images, spread evenly (built-in: render so many).")
@click.option("--shuffle-buffer", type=int, help="Of tar shards, images: a training image moves by up to this number, over --streams, from where the "
              "shuffled shards have it; as many are held in memory, by all processes together.  [default: 4096]")  # fmt: skip
@click.option("--streams", type=int, help="Of tar shards: parts of the data read at once, by all processes together; divides --batch.  [default: 16]")
@click.option("--seed", type=int, help="Of weights, order, augmentation and dropout.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda if there is one]")
@click.option("--threads", type=click.IntRange(1), help="On the CPU; as many processes decode for validation.  [default: this process's share of the cores]")
@click.option("--workers", type=click.IntRange(0), help="Loader processes, each process.  [default: as --threads]")
@click.option("--checkpoint-every", type=click.IntRange(1), default=1000, help="Updates between checkpoints; an epoch's end makes one in any case.")
@click.option("--tensorboard", is_flag=True, help="Also write losses and errors for TensorBoard, into the run's folder.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw some augmented crops to this PNG, to check by eye; train nothing.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="RUN", help="Draw the curves of a run's or chain's folder; train nothing.")
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What an unreadable image does.")
@click.pass_context
@interruptible("what was saved before is kept")
def main(ctx, arch, chain, stage, plan_only, data, out, resume, weights, mean, std, channel_order, net_a, freeze_features, fine_tune_epochs,
         fine_tune_lr, compiled, images, device, threads, workers, checkpoint_every, tensorboard, picture, plot, on_error, **recipe):  # fmt: skip
    """Train a net of Table 1 by the paper's recipe: python -m train --arch D --data /data/imagenet

    Without --data a thin net learns the built-in pictures by a small recipe that fits two cores. On several GPUs or
    machines: torchrun --nproc-per-node 8 -m train --arch D --data /data/imagenet --out runs/D
    """
    chain = chain or ("one-scale" if arch == "all" else None)
    if resume and (given := _given(ctx) - FOR_RESUME):
        flags = sorted(parameter.opts[0] for parameter in ctx.command.params if parameter.name in given)
        raise click.UsageError(f"--resume goes on with the run's own recipe; leave {', '.join(flags)} out")
    if (stage or plan_only or fine_tune_epochs or fine_tune_lr is not None) and not (chain or resume):
        raise click.UsageError("--stage, --plan, --fine-tune-epochs and --fine-tune-lr belong to a chain; add --chain paper")
    if chain and (weights or net_a or freeze_features):
        raise click.UsageError("a chain's stages start from each other; leave --weights, --net-a and --freeze-features out")
    if chain in ("paper", "glorot") and recipe["side"]:
        raise click.UsageError(f"the chain {chain} fixes S by its stages; leave --side out")
    if chain == "glorot" and recipe["init"] not in (None, "glorot"):
        raise click.UsageError("the chain glorot fixes how layers are drawn; leave --init out")
    stated = StatedInput(mean, std, channel_order)
    if not (weights or stated.says_nothing):
        raise click.UsageError("--mean, --std and --channel-order describe the weights to start from; add --weights")
    if plot:
        from train.curves import draw_curves

        click.echo(f"Curves: {draw_curves(plot)}")
        return
    # waiting threads must sleep, not spin: the loader's processes need the same cores (read when torch is imported)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from train.chain import FineTune
    from train.command import Request, go_on, train
    from train.session import Machine
    from vgg_deploy.machine import available_cores, pick_device
    from vgg_deploy.ranks import joined

    device = pick_device(device)
    with joined(device) as ranks:
        if tensorboard:
            from train.board import check_installed

            ranks.from_main(check_installed)
        threads = threads or max(1, available_cores() // ranks.local_world)
        place = Machine(device, threads, threads if workers is None else workers, on_error, compiled, checkpoint_every, tensorboard, ranks)
        if resume:
            go_on(resume, plan_only, place)
        else:
            train(Request(arch, chain, stage, plan_only, data, out, weights, net_a, freeze_features, images, FineTune(fine_tune_epochs, fine_tune_lr),
                          recipe, picture, stated), place)  # fmt: skip


def _given(ctx: click.Context) -> set[str]:
    """Names of the parameters that the command line has."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}


if __name__ == "__main__":
    main(prog_name="python -m train")
