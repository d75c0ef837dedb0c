"""python -m train: options to a config, one call a net."""

import os
import sys
from pathlib import Path

import click

ARCH_NAMES = ("A", "A-LRN", "B", "C", "D", "E")
INIT_NAMES = ("paper-std", "paper-var", "glorot", "he")


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
@click.option("--arch", default="D", type=click.Choice((*ARCH_NAMES, "all")), help="Net of Table 1; all: A, then the others from it.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with train/<class>/* and val/<class>/*. Without it: built-in pictures.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/<arch>-S<side>-<time>]")
@click.option("--resume", is_flag=False, flag_value="newest", metavar="[RUN]", help="Go on with a run folder, or with the newest.")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from this checkpoint, torchvision, timm or Caffe-layout file.")
@click.option("--net-a", type=click.Path(path_type=Path), help="Start B-E from this trained A.  [default: the newest run of A that fits]")
@click.option("--freeze-features", is_flag=True, help="Train fc6-fc8 only, on features of --weights computed once.")
@click.option("--init", type=click.Choice(INIT_NAMES), help="How layers that start random are drawn.")
@click.option("--side", "side", callback=parse_side, metavar="S|LOW:HIGH", help="Shorter image side in training, pixels.")
@click.option("--crop", type=int, help="Training crop, pixels, a multiple of 32.")
@click.option("--width", type=float, help="Multiplier of every layer's channels.")
@click.option("--lrn", type=click.Choice(("alexnet", "caffe")), help="A-LRN: alpha as in AlexNet's formula, or divided by the window.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch", type=int, help="Images an update.")
@click.option("--lr", type=float, help="First learning rate.")
@click.option("--lr-drops", callback=parse_drops, metavar="plateau|E,E", help="When the rate is divided by 10: on a plateau, or after these epochs.")
@click.option("--images", type=click.IntRange(1), help="Use so many training images, spread evenly (built-in: render so many).")
@click.option("--seed", type=int, help="Of weights, order and augmentation.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda if there is one]")
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch on the CPU.  [default: the cores this process may use]")
@click.option("--workers", type=click.IntRange(0), help="Loader processes.  [default: as --threads]")
@click.option("--on-error", type=click.Choice(("stop", "skip")), default="stop", help="What an unreadable image does.")
def main(arch, data, out, resume, weights, net_a, freeze_features, images, device, threads, workers, on_error, **recipe):
    """Train a net of Table 1 by the paper's recipe: python -m train --arch D --data /data/imagenet

    Without --data a thin net learns the built-in pictures by a small recipe that fits two cores.
    """
    # waiting threads must sleep, not spin: the loader's processes need the same cores (read when torch is imported)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from train.plan import resume_run, train_archs  # here, so that --help and usage errors need no PyTorch
    from train.session import Machine
    from vgg_deploy.machine import available_cores, pick_device

    threads = threads or available_cores()
    machine = Machine(pick_device(device), threads, threads if workers is None else workers, on_error)
    try:
        if resume:
            given = {name for name, value in {**recipe, "weights": weights, "net-a": net_a, "out": out}.items() if value is not None}
            if given:
                raise click.UsageError(f"--resume goes on with the run's own recipe; leave {', '.join('--' + g.replace('_', '-') for g in sorted(given))} out")
            resume_run(resume, machine)
        else:
            train_archs(arch, data, out, weights, net_a, freeze_features, images, recipe, machine)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(prog_name="python -m train")
