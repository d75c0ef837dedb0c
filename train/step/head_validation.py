"""Validates a head on a fixed trunk: pool5 of the whole images is computed once, scored each epoch.

Three files in the cache folder: the maps one after another, float32; a table with the image and the
size of each; and the SHA-256 of both, which is checked before they are used again. The maps are
kept in float32 so that the errors are those of the whole net.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
import torch

from train.feed.feature_announcement import MORE_SPACE, Announcement, seconds_per_image
from train.feed.frozen_features import (
    Extraction,
    cache_path,
    computed_again,
    messages_of,
    parts,
    pool5_channels,
    trunk_of,
)
from train.feed.growing_file import GrowingFile, only_writer
from train.feed.unreadable import Skipped
from train.step.loop import Errors, Validate
from train.step.stop_signals import Signals
from train.step.trainee import mixed
from train.step.validation import BATCH, LABEL, Counts, counted, errors_of, few_sizes
from vgg_deploy.cache import writable_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import read_regular_text

USUAL_ASPECT = 4 / 3  # of photos, for the size that is announced
FLOAT32_BYTES = 4


class Maps(NamedTuple):
    """pool5 of whole images.

    Attributes:
        table: (maps, 3) int64: index of the image, height and width of its map, in the order of
            `values`.
        values: (values,) float32: every map's (C, height, width) one after another, mapped from
            disk.
        channels: C.
    """

    table: np.ndarray
    values: np.ndarray
    channels: int

    def is_complete(self) -> bool:
        """Whether there are as many values as the table says."""
        return len(self.values) == self.channels * int((self.table[:, 1] * self.table[:, 2]).sum())

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read maps in their order, those of one size that follow each other together.

        Yields:
            (N,) indices of images, and (N, C, height, width) float32 maps; N is at most BATCH.
        """
        first, offset = 0, 0
        while first < len(self.table):
            _, height, width = self.table[first]
            same = (self.table[first : first + BATCH, 1:] == (height, width)).all(axis=1)
            last = first + (len(same) if same.all() else int(np.argmin(same)))
            shape = (last - first, self.channels, int(height), int(width))
            end = offset + int(np.prod(shape, dtype=np.int64))
            yield self.table[first:last, 0], np.array(self.values[offset:end]).reshape(shape)
            first, offset = last, end


def whole_maps(dataset: Dataset, how: Extraction) -> Maps:
    """Compute pool5 of every validation image at Q = `how.side`, without mirrored images.

    The files are used again for the same trunk, images and size, unless an image that was
    unreadable can be read by now. If the process is stopped, the next one goes on with the parts
    that were finished.

    Args:
        dataset: Validation images.
        how: Trunk, scale and treatment of unreadable images.

    Returns:
        The maps.

    Raises:
        InputError: An image is unreadable and they are not skipped, or none can be read, or the
            disk has too little space.
    """
    path = cache_path(dataset, how, "whole", "val", ".maps")
    table = path.with_suffix(".table.npy")
    exists = path.is_file()
    maps = _cached(path, table, how)
    if exists and maps is None:
        how.log(computed_again(path))
    if maps is None or not _rest_is_unreadable(maps, dataset, how):
        path = writable_folder(path.parent) / path.name
        table = path.with_suffix(".table.npy")
        with only_writer(path, how.log) as waited:
            maps = _cached(path, table, how) if waited else None
            if maps is None or not _rest_is_unreadable(maps, dataset, how):
                _compute(dataset, how, path, table)
                maps = _cached(path, table, how)
    if maps is None:
        raise InputError(
            f"{dataset.root}: none of its {len(dataset)} validation images can be read"
        )
    return maps


def _rest_is_unreadable(maps: Maps, dataset: Dataset, how: Extraction) -> bool:
    """Whether images without a map still cannot be read.

    Raises:
        UnreadableImage: For the first, unless they are skipped.
    """
    messages = []
    for index in np.setdiff1d(np.arange(len(dataset)), maps.table[:, 0]):
        try:
            dataset.image(int(index))
        except InputError as error:
            messages.append(error.what)
        else:
            return False
    if messages and how.on_error == "stop":
        raise UnreadableImage(messages[0])
    Skipped(LABEL, how.log).report(messages)
    return True


def _cached(path: Path, table: Path, how: Extraction) -> Maps | None:
    """The maps in the cache; None if they are not as they were written."""
    try:
        if read_regular_text(path.with_suffix(".sha256")) != _digests(path, table):
            return None
        maps = Maps(np.load(table), np.memmap(path, np.float32, "r"), pool5_channels(how.net))
    except (OSError, ValueError):
        return None
    return maps if maps.is_complete() else None


def _digests(path: Path, table: Path) -> str:
    """SHA-256 of the maps and of their table, as the third file has them."""
    return f"{sha256(path)} {sha256(table)}\n"


@torch.inference_mode()
def _compute(dataset: Dataset, how: Extraction, path: Path, table: Path) -> None:
    """Write the maps, their table and the digests, from where an earlier process was stopped."""
    skipped = Skipped(LABEL, how.log)

    def report(index: int, error: InputError) -> None:
        skipped.report([error.what])

    on_bad = report if how.on_error == "skip" else None
    images, pool5 = len(dataset), trunk_of(how)
    usual = (how.side, int(how.side * USUAL_ASPECT))
    with few_sizes(), closing(GrowingFile(path, MORE_SPACE)) as growing:
        if growing.damaged:
            how.log(computed_again(growing.path))
        rows = _rows_so_far(growing, dataset, how, skipped)
        seconds = seconds_per_image(
            dataset, pool5, (how.trial_batch, *usual), *how.scale, how.threads
        )
        size = _usual_bytes(how, *usual) * images
        todo = images - growing.steps
        Announcement("validation", images, growing.steps, size, path, todo * seconds).print(
            how.log, shutil.disk_usage(path.parent).free
        )
        title = f"validation features of net {how.net.spec.arch}"
        with progress(title, images, growing.steps) as bar:
            for part, wanted in parts(images, growing.steps, how.device):
                new: list[list[int]] = []
                for batch in size_batches(
                    dataset,
                    {how.scale: wanted},
                    BATCH,
                    how.threads,
                    on_bad,
                    patience=how.patience,
                ):
                    maps = pool5(batch.images).cpu().contiguous().numpy()
                    growing.write(maps.reshape(-1).view(np.uint8).data)
                    _, _, height, width = maps.shape
                    new += [[int(index), height, width] for index in batch.indices]
                    bar.advance(len(batch.indices))
                growing.finish_part(len(part), new)
                rows += new
        with whole_file(table) as partial_table, open(partial_table, "wb") as file:
            np.save(file, np.array(rows, np.int64).reshape(-1, 3))
        write_text(path.with_suffix(".sha256"), _digests(growing.path, table))
        growing.finish()


def _rows_so_far(
    growing: GrowingFile, dataset: Dataset, how: Extraction, skipped: Skipped
) -> list[list[int]]:
    """Rows of the table for the parts that are done; begins anew if they do not fit.

    Args:
        growing: The maps so far.
        dataset: The images.
        how: With the net.
        skipped: Names the images of these parts that cannot be read.
    """
    rows = [row for row in growing.notes if _is_row(row, growing.steps)]
    values = pool5_channels(how.net) * sum(height * width for _, height, width in rows)
    fits = growing.size == FLOAT32_BYTES * values and len(rows) == len(growing.notes)
    if fits and growing.steps <= len(dataset):
        missing = sorted(set(range(growing.steps)) - {row[0] for row in rows})
        unreadable = messages_of(dataset, missing)
        if unreadable is not None and not (unreadable and how.on_error == "stop"):
            skipped.report(unreadable.values())
            return rows
    growing.begin_anew()
    return []


def _is_row(row: object, images: int) -> TypeGuard[list[int]]:
    """Whether it is the index of one of the first images, and the size of its map."""
    return (
        isinstance(row, list)
        and len(row) == 3
        and all(type(value) is int and value >= 0 for value in row)
        and row[0] < images
    )


def _usual_bytes(how: Extraction, height: int, width: int) -> int:
    """Size of the map of an image of these sides, pixels."""
    return (height // STRIDE) * (width // STRIDE) * pool5_channels(how.net) * FLOAT32_BYTES


def map_validation(how: Extraction, maps: Maps, dataset: Dataset, precision: str) -> Validate:
    """Prepare the validation of a head: dense at one scale, as `validation.dense_validation`.

    Args:
        how: The net, whose head is in training, and its device.
        maps: Of `whole_maps`.
        dataset: Validation images.
        precision: That of the updates.

    Returns:
        A function that returns the errors of the present weights, or None if a signal came first.
    """

    @torch.inference_mode()
    def validate(signals: Signals) -> Errors | None:
        head = how.net.head.eval()
        counts = np.zeros(3)
        with (
            few_sizes(),
            mixed(how.device, precision),
            progress("validation", len(maps.table)) as bar,
        ):
            for indices, values in maps.batches():
                scores = head(torch.from_numpy(values).to(how.device))
                counts += counted(scores, dataset.labels[indices])
                bar.advance(len(indices))
                if signals.noted:
                    return None
        return errors_of(Counts(*counts), dataset, how.log)

    return validate
