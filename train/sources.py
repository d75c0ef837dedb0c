"""Opens the files that a run starts from: its images and its first weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from train.options.moved import Moved
from train.options.run_settings import RunSettings
from train.recipe.config import TRAIN_SCENES, VAL_SCENES
from train.record.log import log
from vgg_deploy.data.annotations import open_annotations, with_boxes
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.built_in_boxes import built_in_with_boxes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.errors import InputError
from vgg_deploy.net.box_outputs import BOX_COORDINATES
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput

BUILT_IN = "the built-in images"
EARLIER_BUILT_IN = "the built-in pictures"  # what earlier versions wrote to config.json
NOT_MOVED = Moved()
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
        boxes: Of a localiser: how the user named the annotations, or `BUILT_IN`; None for a
            classifier.
        box_coordinates: What their coordinates mean, a name in `CONVENTIONS`.
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
    boxes: str | None = None
    box_coordinates: str = BOX_COORDINATES[0]

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
        if self.boxes:
            saved |= {"boxes": self.boxes, "box_coordinates": self.box_coordinates}
        return saved if self.stated.is_empty else {**saved, "stated": self.stated.as_json()}


def sources_from_json(
    saved: Mapping[str, Any], settings: RunSettings, moved: Moved = NOT_MOVED
) -> Sources:
    """Open the files that `Sources.as_json` named.

    Args:
        saved: What it gave.
        settings: Of this process.
        moved: Where the images and boxes are now.

    Raises:
        InputError: If the data cannot be opened, or boxes are named for a classifier.
    """
    data = moved.data or current_name(saved["data"])
    boxes = saved.get("boxes")
    if moved.boxes and not boxes:
        raise InputError(f"{moved.boxes}: this run trains a classifier; leave --boxes out")
    images = ImageRequest(
        None if data == BUILT_IN else data,
        saved["images"],
        saved.get("exif", "ignore"),
        moved.boxes or boxes,
        saved.get("box_coordinates", BOX_COORDINATES[0]),
    )
    train, val = open_sets(images, settings)
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
        exif=images.exif,
        weights_name=saved.get("weights_name", ""),
        boxes=images.boxes,
        box_coordinates=images.box_coordinates,
    )


def current_name(data: str) -> str:
    """The name of data in a file that an earlier version may have written."""
    return BUILT_IN if data == EARLIER_BUILT_IN else data


class ImageRequest(NamedTuple):
    """Which images are opened, and how.

    Attributes:
        data: Folder or URL; None for the built-in images.
        images: How many training images to use, spread evenly; None for all.
        exif: What is done with the EXIF rotation, "ignore" or "apply".
        boxes: As of `Sources`.
        box_coordinates: As of `Sources`.
    """

    data: str | None
    images: int | None
    exif: str = "ignore"
    boxes: str | None = None
    box_coordinates: str = BOX_COORDINATES[0]


def open_sets(request: ImageRequest, settings: RunSettings) -> tuple[Dataset, Dataset]:
    """Open the training and the validation images; those of a localiser have boxes.

    The main process goes first; the others use the index that it caches.

    Args:
        request: Which images.
        settings: Of this process.

    Raises:
        InputError: If the data cannot be opened, have one class only, or are not the same for all
            processes of the job.
    """
    job = settings.job
    if request.data is None:
        train, val = job.main_first(_built_in_sets, request)
    else:
        train, val = job.main_first(_folder_sets, request.data, settings.on_error)
        train, val = (replace(each, upright=request.exif == "apply") for each in (train, val))
        if request.boxes:
            train, val = job.on_main(_with_boxes, (train, val), request, settings)
        train = _some(train, request.images)
        for kind, dataset in (("Training", train), ("Validation", val)):
            line = job.on_main(rotation_line, dataset, "--exif apply turns them upright")
            if line:
                log(f"{kind} images: {line}")
    identity = [len(train), len(val), train.classes, train.files[0], train.files[-1]]
    if any(other != identity for other in job.gather(identity)):
        raise InputError(
            f"{request.data}: the processes of this job see different images there; "
            "give all of them the same data"
        )
    for dataset in (train, val):
        for name in dataset.skipped:
            log(f"Skipped {name}: not an image")
    return train, val


def _built_in_sets(request: ImageRequest) -> tuple[Dataset, Dataset]:
    images = request.images
    if images and images > MOST_SCENES:
        raise InputError(f"--images {images}: there are {MOST_SCENES} built-in images at most")
    opened = built_in_with_boxes if request.boxes else built_in
    return opened("train", images or TRAIN_SCENES), opened("val", VAL_SCENES)


def _folder_sets(data: str, on_error: str) -> tuple[Dataset, Dataset]:
    train = open_dataset(data, "train", on_error=on_error)
    val = open_dataset(data, "val", on_error=on_error)
    if len(train.classes) == 1:
        raise InputError(
            f"{train.root}: has one class, {train.classes[0]}; "
            "a net needs two or more to tell apart"
        )
    return train, val


def _with_boxes(
    sets: tuple[Dataset, Dataset], request: ImageRequest, settings: RunSettings
) -> tuple[Dataset, Dataset]:
    """The images that have boxes, with these."""
    annotations = open_annotations(request.boxes or "")
    threads = settings.threads * settings.job.local_world
    found = [
        with_boxes(each, annotations, request.box_coordinates, threads, settings.on_error)
        for each in sets
    ]
    for kind, one in zip(("training", "validation"), found, strict=True):
        for line in one.lines(kind):
            log(line)
    return found[0].dataset, found[1].dataset


def _some(train: Dataset, images: int | None) -> Dataset:
    """As many training images as are asked for."""
    if images and images > len(train):
        log(f"--images {images}: there are {len(train)} training images; all of them are used.")
    return train.subset(images) if images and images < len(train) else train


def _path(saved: str | None) -> Path | None:
    return Path(saved) if saved else None
