"""Reads image files as a plain loop does: Pillow and NumPy, one image after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contract import Task
from PIL import Image

from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.images.geometry import rescaled_size


class Batch(NamedTuple):
    """Input of one call."""

    pixels: np.ndarray  # (N, 3, h, w) uint8 RGB
    labels: list[int]  # indices into the net's classes


def artifact_of(model: Path) -> Artifact:
    """The description of an exported file in its manifest."""
    return Artifact.from_json(manifest_path(model).read_text(), str(model))


def batches(task: Task, artifact: Artifact) -> Iterator[Batch]:
    """All images in order: crops in batches, whole images of any size one by one."""
    index = {id: i for i, id in enumerate(artifact.spec.classes)}
    files = sorted(task.data.glob("*/*"))
    step = task.batch if task.view == "crop" else 1
    for start in range(0, len(files), step):
        of_batch = files[start : start + step]
        yield Batch(
            np.stack([pixels(file, task, artifact.spec.crop) for file in of_batch]),
            [index[file.parent.name] for file in of_batch],
        )


def pixels(file: Path, task: Task, crop: int) -> np.ndarray:
    """One image in the view of the task, (3, h, w) uint8."""
    image = Image.open(file).convert("RGB")
    height, width = rescaled_size(image.height, image.width, task.side)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if task.view == "crop":
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)


def random_image(artifact: Artifact) -> np.ndarray:
    """Random pixels, (1, 3, crop, crop) uint8."""
    crop = artifact.spec.crop
    return np.random.default_rng(0).integers(0, 256, (1, 3, crop, crop), np.uint8)
