"""The smallest units of an accuracy measurement: posteriors of one model at one Q, mirrored or not.

Every row of an accuracy table is an average over cells, so each is computed once however many rows use it.
"""

from typing import NamedTuple

import numpy as np

from vgg_deploy.batches import size_batches
from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import Runtime


class Cell(NamedTuple):
    """Dense evaluation (section 3.2) of whole images."""

    model: int  # position among the models of the run
    side: int  # Q, pixels
    mirrored: bool


class Measured(NamedTuple):
    """Posteriors of one data set."""

    cells: dict[Cell, np.ndarray]  # each (images, classes) float32, rows as `kept`
    kept: np.ndarray  # positions in the data set that could be read
    skipped: list[str]  # what was wrong with the others


def measure_cells(
    runtimes: list[Runtime], dataset: Dataset, sides: tuple[int, ...], flips: bool, batch: int, threads: int, on_error: str
) -> Measured:
    """Run every model on every image at every Q; each image is decoded once.

    Args: batch, most images a call; threads, decoders; on_error, "stop" or "skip" for unreadable images.
    Raises: InputError for the first unreadable image, unless they are skipped.
    """
    views = (False, True) if flips else (False,)
    cells = {
        Cell(m, side, mirrored): np.zeros((len(dataset), len(runtime.spec.classes)), np.float32)
        for m, runtime in enumerate(runtimes)
        for side in sides
        for mirrored in views
    }
    skipped: dict[int, str] = {}
    on_bad = (lambda index, error: skipped.setdefault(index, error.message)) if on_error == "skip" else None
    work = len(dataset) * len(runtimes) * len(views) * sum(side * side for side in sides)
    filter = runtimes[0].spec.preprocessing.filter
    with progress(f"accuracy on {len(dataset)} images", work) as bar:
        for found in size_batches(dataset, sides, filter, batch, threads, on_bad):
            for mirrored in views:
                # a copy: runtimes want the pixels in order
                images = np.ascontiguousarray(found.images[..., ::-1]) if mirrored else found.images
                for m, runtime in enumerate(runtimes):
                    cells[Cell(m, found.side, mirrored)][found.indices] = runtime(images).posterior
                    bar.advance(len(found.indices) * found.side**2, f"Q {found.side}")
    kept = np.setdiff1d(np.arange(len(dataset)), list(skipped))
    if not len(kept):
        raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")
    return Measured({cell: values[kept] for cell, values in cells.items()}, kept, list(skipped.values()))
