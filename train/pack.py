"""Packs a folder of images into tar shards, or indexes existing shards: `python -m train.pack`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.options.option_types import Number
from train.recipe.number_ranges import IMAGES_PER_SHARD, RECIPE_LIMITS
from vgg_deploy.command_line import Choice, Command, say, version_option
from vgg_deploy.errors import hints, interruptible

if TYPE_CHECKING:
    from vgg_deploy.data.shard_writer import Packing

HINTS = {
    "data": "check SOURCE",
    "shards": "check --index",
    "names": "name the shards with --train GLOB and --val GLOB, or rename or move them",
    "unreadable": "remove it or pass --on-error skip",
    "stray": "move it or pass --on-error skip",
}


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("paths", nargs=-1, metavar="SOURCE... TARGET")
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
    "--train",
    metavar="GLOB",
    help="With --index: names of the training shards, such as 'imagenet1k-train-*.tar' or "
    "'imagenet1k-train-{0000..1023}.tar'.  [default: train*.tar, imagenet1k-train*.tar]",
)
@click.option(
    "--val",
    metavar="GLOB",
    help="With --index: names of the validation shards.  [default: val*.tar, imagenet1k-val*.tar]",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="With --index: the classes in the order of their numbers, one per line (the whole line), "
    "or JSON.  [default: the ids in the shards, sorted; or numbered]",
)
@version_option
@hints(HINTS)
@interruptible("shards that were written stay; remove them before you start again")
def main(
    paths: tuple[str, ...],
    images_per_shard: int,
    seed: int,
    on_error: str,
    index: Path | None,
    train: str | None,
    val: str | None,
    classes: Path | None,
) -> None:
    """Write the images of SOURCE as tar shards into the folder TARGET.

    SOURCE is a folder (train/<class>/*, val/...), Kaggle's ImageNet, a folder of parquet files from
    the Hugging Face hub, or the files of ILSVRC as they are downloaded, of which nothing is
    unpacked: ILSVRC2012_img_train.tar ILSVRC2012_img_val.tar ILSVRC2012_devkit_t12.tar.gz TARGET

    Shards follow WebDataset's convention, KEY.jpg and KEY.cls, with the training images in a random
    order. Train from them in the folder, or copy them to any store that fsspec opens:
    python -m train --data s3://bucket/shards
    """
    if bool(index) == bool(paths) or len(paths) == 1:
        raise click.UsageError("name SOURCE and TARGET, or --index FOLDER alone")
    for option, value in (("--classes", classes), ("--train", train), ("--val", val)):
        if value and not index:
            raise click.UsageError(f"{option} belongs to --index; a folder's classes are its own")
    from vgg_deploy.data.imagenet import count_warnings

    target, is_imagenet, packings = (
        _indexed(index, train, val, classes)
        if index
        else _packed(paths, images_per_shard, seed, on_error)
    )
    for split, packing in packings.items():
        mixed = f", each of {packing.fewest_classes} classes or more" if split == "train" else ""
        say(f"{split}: {packing.images} images in {len(packing.shards)} shards{mixed}")
        if is_imagenet:
            count = len(set(packing.labels.tolist()))
            for line in count_warnings(split, packing.images, count):
                say(f"Warning: {line}", err=True)
    say(f"Use them: python -m train --data {target}")


def _packed(
    paths: tuple[str, ...], images_per_shard: int, seed: int, on_error: str
) -> tuple[Path, bool, dict[str, "Packing"]]:
    """Pack the sources; return the folder, whether they are ImageNet, and what was packed."""
    from vgg_deploy.data.downloads import opened_downloads
    from vgg_deploy.data.shard_writer import pack, refuse_old_shards

    target = Path(paths[-1])
    refuse_old_shards(target)
    with opened_downloads(paths[:-1], target, on_error) as (datasets, is_imagenet):
        return target, is_imagenet, pack(datasets, target, images_per_shard, seed)


def _indexed(
    folder: Path, train: str | None, val: str | None, classes: Path | None
) -> tuple[Path, bool, dict[str, "Packing"]]:
    """Index the shards of a folder; the result is as that of `_packed`."""
    from vgg_deploy.data.foreign_shards import index_shards

    patterns = {split: glob for split, glob in (("train", train), ("val", val)) if glob}
    packings = index_shards(folder, classes, patterns)
    is_imagenet = any(
        str(shard["file"]).startswith("imagenet1k-")
        for packing in packings.values()
        for shard in packing.shards
    )
    return folder, is_imagenet, packings


if __name__ == "__main__":
    main(prog_name="python -m train.pack")
