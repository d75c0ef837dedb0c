"""Draws training images beside augmented crops of them: `python -m train.views`."""

from pathlib import Path

import click

from train.hints import HINTS
from train.options import option_groups as groups
from train.options.machine_options import MachineOptions, joined_job
from train.options.request import TrainRequest
from train.recipe.recipe_options import RecipeOptions
from vgg_deploy.command_line import Command, version_option
from vgg_deploy.errors import hints, interruptible


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.png")
@groups.data_option()
@groups.images_option
@groups.exif_option
@groups.side_option
@groups.crop_option
@groups.seed_option
@groups.threads_option
@groups.on_error_option
@version_option
@hints(HINTS)
@interruptible("nothing was changed")
def main(
    out: Path,
    data: str | None,
    images: int | None,
    exif: str,
    side: tuple[int, int] | None,
    crop: int | None,
    seed: int | None,
    threads: int | None,
    on_error: str,
) -> None:
    """Draw training images, and their augmented crops as a net gets them, to OUT.png.

    Trains nothing. The crops are those of the first epochs of a training with the same options.
    """
    recipe = RecipeOptions(side=side, crop=crop, seed=seed)
    request = TrainRequest(data=data, images=images, recipe=recipe, exif=exif)
    machine = MachineOptions(device="cpu", threads=threads, workers=0, on_error=on_error)
    with joined_job(machine) as settings, hints(HINTS):
        from train import command

        command.draw_views_of(request, out, settings)


if __name__ == "__main__":
    main(prog_name="python -m train.views")
