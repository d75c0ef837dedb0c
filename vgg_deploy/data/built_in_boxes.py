"""Gives the boxes of the objects in built-in images, which are known exactly."""

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.cache import cache_folder, or_uncached
from vgg_deploy.data.built_in import VERSION, built_in, object_boxes_of
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.files import whole_file
from vgg_deploy.machine import available_cores
from vgg_deploy.progress import progress
from vgg_deploy.worker_processes import worker_context

FILE = re.compile(r"boxes-([0-9]+)\.npz")
SIDE = 4096  # pixels; no built-in image is larger


def built_in_with_boxes(split: str, count: int) -> Dataset:
    """Open the first built-in images of a split, with the boxes of their objects.

    Args:
        split: "train" or "val".
        count: Number of images.

    Raises:
        InputError: As `built_in`.
    """
    dataset = built_in(split, count)
    indices = [int(PurePosixPath(file).stem) for file in dataset.files]
    boxes = object_boxes(split, count)
    return replace(dataset, boxes=boxes.take(np.array(indices, np.int64)))


def object_boxes(split: str, count: int) -> BoxLists:
    """The boxes of the first images of a split, in the order of their numbers.

    They are kept in the cache folder, since images must be drawn again to find them.

    Args:
        split: "train" or "val".
        count: Number of images.
    """
    folder = cache_folder() / f"scenes-v{VERSION}" / split
    for path in sorted(folder.glob("boxes-*.npz")):
        match = FILE.fullmatch(path.name)
        known = _read(path, int(match[1])) if match and int(match[1]) >= count else None
        if known is not None:
            return known.take(np.arange(count))
    found = _drawn(split, count)

    path = folder / f"boxes-{count}.npz"
    with or_uncached(path), whole_file(path) as partial_file, open(partial_file, "wb") as file:
        np.savez(file, boxes=found.boxes, ends=found.ends)
    return found


def _drawn(split: str, count: int) -> BoxLists:
    """Draw the images in several processes for their boxes."""
    label = f"boxes of {count} built-in {split} images"
    pool = ProcessPoolExecutor(available_cores(), mp_context=worker_context())
    lists = []
    with pool, progress(label, count) as bar:
        for boxes in pool.map(partial(object_boxes_of, split), range(count), chunksize=16):
            lists.append(boxes)
            bar.advance()
    return BoxLists.of(lists)


def _read(path: Path, count: int) -> BoxLists | None:
    """Read cached boxes; None if the file is not as it was written."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            boxes, ends = saved["boxes"], saved["ends"]
    except Exception:  # numpy and zipfile raise almost anything for a damaged file
        return None
    sound = (
        boxes.dtype == np.float64
        and ends.dtype == np.int64
        and boxes.ndim == 2
        and boxes.shape[1:] == (4,)
        and ends.shape == (count,)
        and bool((np.diff(ends, prepend=0) >= 0).all())
        and (ends[-1] if count else 0) == len(boxes)
        and bool(((boxes >= 0) & (boxes <= SIDE)).all())
    )
    return BoxLists(boxes, ends) if sound else None
