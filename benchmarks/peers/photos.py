"""What a plain loop does with image files: Pillow and NumPy, one after the other, the net's own sizes and classes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contract import Task
from PIL import Image

from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.images.geometry import rescaled_size


class Pictures(NamedTuple):
    """What one call gets."""

    pixels: np.ndarray  # (N, 3, h, w) uint8 RGB
    labels: list[int]  # positions among the net's classes


def artifact_of(model: Path) -> Artifact:
    """What an exported file's manifest says."""
    return Artifact.from_json(manifest_path(model).read_text(), str(model))


def batches(task: Task, artifact: Artifact) -> Iterator[Pictures]:
    """All images in order: crops in batches, whole images of any size one by one."""
    place = {id: i for i, id in enumerate(artifact.spec.classes)}
    files = sorted(task.data.glob("*/*"))
    step = task.batch if task.view == "crop" else 1
    for some in (files[i : i + step] for i in range(0, len(files), step)):
        yield Pictures(
            np.stack([pixels(file, task, artifact.spec.crop) for file in some]),
            [place[file.parent.name] for file in some],
        )


def pixels(file: Path, task: Task, crop: int) -> np.ndarray:
    """(3, h, w) uint8 of one image in the view of the task."""
    image = Image.open(file).convert("RGB")
    height, width = rescaled_size(image.height, image.width, task.side)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if task.view == "crop":
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)


def random_picture(artifact: Artifact) -> np.ndarray:
    """(1, 3, crop, crop) uint8."""
    return np.random.default_rng(0).integers(
        0, 256, (1, 3, artifact.spec.crop, artifact.spec.crop), np.uint8
    )
