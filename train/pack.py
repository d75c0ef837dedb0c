"""Packs a folder of images into tar shards, or indexes existing shards: `python -m train.pack`."""

from pathlib import Path

import click

from train.options.option_types import Number
from train.recipe.number_ranges import IMAGES_PER_SHARD, RECIPE_LIMITS
from vgg_deploy.command_line import Choice, Command, version_option
from vgg_deploy.errors import hints, interruptible

HINTS = {
    "data": "check SOURCE",
    "shards": "check --index",
    "unreadable": "remove it or pass --on-error skip",
    "stray": "move it or pass --on-error skip",
}


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("source", required=False)
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option(
    "--images-per-shard",
    default=1000,
    type=Number(IMAGES_PER_SHARD),
    help="Images per shard; 1000 of ImageNet are about 110 MB.",
)
@click.option(
    "--seed",
    default=0,
    type=Number(RECIPE_LIMITS["seed"]),
    help="Of the order of the training images.",
)
@click.option(
    "--on-error",
    type=Choice(("stop", "skip")),
    default="stop",
    help="Stop at a file that is no image by its name, or skip it.",
)
@click.option(
    "--index",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Instead: index WebDataset shards, train*.tar and val*.tar, of this folder.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="With --index: the classes in the order of their numbers, one per line (the whole line), "
    "or JSON.  [default: numbered]",
)
@version_option
@hints(HINTS)
@interruptible("shards that were written stay; remove them before you start again")
def main(
    source: str | None,
    target: Path | None,
    images_per_shard: int,
    seed: int,
    on_error: str,
    index: Path | None,
    classes: Path | None,
) -> None:
    """Write the images of SOURCE (train/<class>/*, val/...) as tar shards into the folder TARGET.

    Shards follow WebDataset's convention, KEY.jpg and KEY.cls, with the training images in a random
    order. Train from them in the folder, or copy them to any store that fsspec opens:
    python -m train --data s3://bucket/shards
    """
    if bool(index) == bool(source) or bool(source) != bool(target):
        raise click.UsageError("name SOURCE and TARGET, or --index FOLDER alone")
    if classes and not index:
        raise click.UsageError("--classes belongs to --index; a folder's classes are its own")
    from vgg_deploy.data.shard_writer import index_shards, pack

    if index:
        packings = index_shards(index, classes)
    else:
        assert source and target
        packings = pack(source, target, images_per_shard, seed, on_error)
    for split, packing in packings.items():
        mixed = f", each of {packing.fewest_classes} classes or more" if split == "train" else ""
        click.echo(f"{split}: {packing.images} images in {len(packing.shards)} shards{mixed}")
    click.echo(f"Use them: python -m train --data {index or target}")


if __name__ == "__main__":
    main(prog_name="python -m train.pack")
