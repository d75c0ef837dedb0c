"""Opens the files that a run starts from: its images and its first weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.options.run_settings import RunSettings
from train.recipe.config import TRAIN_SCENES, VAL_SCENES
from train.record.log import log
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput

BUILT_IN = "the built-in images"
EARLIER_BUILT_IN = "the built-in pictures"  # what earlier versions wrote to config.json
MOST_SCENES = 1_000_000  # their names have six digits


@dataclass(frozen=True)
class Sources:
    """The files that a run starts from.

    Attributes:
        train: Training images.
        val: Validation images.
        data: How the user named the data, or `BUILT_IN`.
        recipe: A key of `RECIPES`.
        weights: Checkpoint or foreign file that all layers start from.
        net_a: Trained A that the layers in `FROM_A` start from.
        freeze: Whether only fc6-fc8 are trained.
        images: How many training images were asked for; None for all.
        stated: The input convention of `weights`.
        exif: What is done with the EXIF rotation of the images, "ignore" or "apply".
        weights_name: What the user named `weights` by, such as torchvision:vgg16; empty for a path.
    """

    train: Dataset
    val: Dataset
    data: str
    recipe: str
    weights: Path | None = None
    net_a: Path | None = None
    freeze: bool = False
    images: int | None = None
    stated: StatedInput = NOTHING_STATED
    exif: str = "ignore"
    weights_name: str = ""

    def as_json(self) -> dict[str, Any]:
        """What a resumed run needs to open the same files; `sources_from_json` reads it."""
        saved = {
            "data": self.data,
            "recipe": self.recipe,
            # not resolved: links of a cache lead to files without a suffix
            "weights": str(self.weights.absolute()) if self.weights else None,
            "net_a": str(self.net_a.absolute()) if self.net_a else None,
            "freeze": self.freeze,
            "images": self.images,
            "exif": self.exif,
        }
        if self.weights_name:
            saved["weights_name"] = self.weights_name
        return saved if self.stated.is_empty else {**saved, "stated": self.stated.as_json()}


def sources_from_json(
    saved: Mapping[str, Any], settings: RunSettings, moved_to: str | None = None
) -> Sources:
    """Open the files that `Sources.as_json` named.

    Args:
        saved: What it gave.
        settings: Of this process.
        moved_to: Where the images are now; None if they are where they were.

    Raises:
        InputError: If the data cannot be opened.
    """
    data = moved_to or current_name(saved["data"])
    folder = None if data == BUILT_IN else data
    exif = saved.get("exif", "ignore")
    train, val = open_sets(folder, saved["images"], settings.on_error, settings.job, exif)
    return Sources(
        train=train,
        val=val,
        data=data,
        recipe=saved["recipe"],
        weights=_path(saved.get("weights")),
        net_a=_path(saved.get("net_a")),
        freeze=saved["freeze"],
        images=saved["images"],
        stated=StatedInput.from_json(saved.get("stated", {})),
        exif=exif,
        weights_name=saved.get("weights_name", ""),
    )


def current_name(data: str) -> str:
    """The name of data in a file that an earlier version may have written."""
    return BUILT_IN if data == EARLIER_BUILT_IN else data


def open_sets(
    data: str | None, images: int | None, on_error: str, job: Job, exif: str = "ignore"
) -> tuple[Dataset, Dataset]:
    """Open the training and the validation images.

    The main process goes first; the others use the index that it caches.

    Args:
        data: Folder or URL; None for the built-in images.
        images: How many training images to use, spread evenly; None for all.
        on_error: At files that are no images, "stop" or "skip".
        job: This process among those of the job.
        exif: What is done with the EXIF rotation, "ignore" or "apply".

    Raises:
        InputError: If the data cannot be opened, have one class only, or are not the same for all
            processes of the job.
    """
    if data is None:
        train, val = job.main_first(_built_in_sets, images)
    else:
        train, val = job.main_first(_folder_sets, data, images, on_error)
        train, val = (replace(each, upright=exif == "apply") for each in (train, val))
        for kind, dataset in (("Training", train), ("Validation", val)):
            line = job.on_main(rotation_line, dataset, "--exif apply turns them upright")
            if line:
                log(f"{kind} images: {line}")
    identity = [len(train), len(val), train.classes, train.files[0], train.files[-1]]
    if any(other != identity for other in job.gather(identity)):
        raise InputError(
            f"{data}: the processes of this job see different images there; "
            "give all of them the same data"
        )
    for dataset in (train, val):
        for name in dataset.skipped:
            log(f"Skipped {name}: not an image")
    return train, val


def _built_in_sets(images: int | None) -> tuple[Dataset, Dataset]:
    if images and images > MOST_SCENES:
        raise InputError(f"--images {images}: there are {MOST_SCENES} built-in images at most")
    return built_in("train", images or TRAIN_SCENES), built_in("val", VAL_SCENES)


def _folder_sets(data: str, images: int | None, on_error: str) -> tuple[Dataset, Dataset]:
    train = open_dataset(data, "train", on_error=on_error)
    val = open_dataset(data, "val", on_error=on_error)
    if len(train.classes) == 1:
        raise InputError(
            f"{train.root}: has one class, {train.classes[0]}; "
            "a net needs two or more to tell apart"
        )
    if images and images > len(train):
        log(f"--images {images}: there are {len(train)} training images; all of them are used.")
    if images and images < len(train):
        train = train.subset(images)
    return train, val


def _path(saved: str | None) -> Path | None:
    return Path(saved) if saved else None
