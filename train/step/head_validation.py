"""Validation of a head on a fixed trunk: pool5 maps of the whole images, computed once, scored
densely every epoch.

Three files in the cache folder: the maps one behind the other, float32, a table of the image and
the size of each, and the SHA-256 of both, which is checked before they are used again. They are kept in float32 so that the errors are those of the whole net.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from train.feed.frozen_features import (
    Extraction,
    announce,
    cache_path,
    computed_again,
    pool5_channels,
    trunk_of,
)
from train.feed.unreadable import Skipped
from train.step.loop import Errors, Validate
from train.step.stop_signals import Signals
from train.step.trainee import mixed
from train.step.validation import BATCH, LABEL, counted, errors_of, few_sizes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.progress import progress

USUAL_ASPECT = 4 / 3  # of photos, for the size that is announced


class Maps(NamedTuple):
    """pool5 of whole images."""

    # (maps, 3) int64: index of the image, height and width of its map, in the order of `values`
    table: np.ndarray
    values: np.ndarray  # every map's (C, height, width) in one row, float32, mapped from disk
    channels: int

    def whole(self) -> bool:
        """Whether there are as many values as the table says."""
        return len(self.values) == self.channels * int((self.table[:, 1] * self.table[:, 2]).sum())

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(N,) indices of images and (N, C, height, width) maps of one size, N at most BATCH."""
        first, place = 0, 0
        while first < len(self.table):
            _, height, width = self.table[first]
            same = (self.table[first : first + BATCH, 1:] == (height, width)).all(axis=1)
            last = first + (len(same) if same.all() else int(np.argmin(same)))
            shape = (last - first, self.channels, int(height), int(width))
            end = place + int(np.prod(shape, dtype=np.int64))
            yield self.table[first:last, 0], np.array(self.values[place:end]).reshape(shape)
            first, place = last, end


def whole_maps(dataset: Dataset, how: Extraction) -> Maps:
    """pool5 of every validation image at Q = `how.side`, without mirrored images.

    The files are used again for the same trunk, images and size, unless an image that could not be
    read can be by now.
    Raises: InputError for the first unreadable image unless they are skipped, and if the disk has
        too little space.
    """
    path = cache_path(dataset, how, "whole", "val", ".maps")
    table = path.with_suffix(".table.npy")
    there = path.is_file()
    maps = _kept(path, table, how)
    if there and maps is None:
        how.say(computed_again(path))
    if maps is None or not _rest_is_unreadable(maps, dataset, how):
        with whole_file(path) as partial:
            rows = _compute(dataset, how, partial, path)
            with whole_file(table) as partial_table, open(partial_table, "wb") as file:
                np.save(file, np.array(rows, np.int64).reshape(-1, 3))
            write_text(path.with_suffix(".sha256"), _digests(partial, table))
        maps = _kept(path, table, how)
    if maps is None:
        raise InputError(
            f"{dataset.root}: none of its {len(dataset)} validation images can be read"
        )
    return maps


def _rest_is_unreadable(maps: Maps, dataset: Dataset, how: Extraction) -> bool:
    """Whether images without a map still cannot be read. Raises: InputError for the first unless
    they are skipped.
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
    Skipped(LABEL, how.say).report(messages)
    return True


def _kept(path: Path, table: Path, how: Extraction) -> Maps | None:
    """What is in the cache; None if that is not as it was written."""
    try:
        if path.with_suffix(".sha256").read_text(encoding="utf-8") != _digests(path, table):
            return None
        maps = Maps(np.load(table), np.memmap(path, np.float32, "r"), pool5_channels(how.net))
    except (OSError, ValueError):
        return None
    return maps if maps.whole() else None


def _digests(path: Path, table: Path) -> str:
    """SHA-256 of the maps and of their table, as they are kept beside them."""
    return f"{sha256(path)} {sha256(table)}\n"


@torch.inference_mode()
def _compute(
    dataset: Dataset, how: Extraction, partial: Path, path: Path
) -> list[tuple[int, int, int]]:
    """Write the maps. Returns: the table's rows."""
    usual = (
        (how.side // STRIDE)
        * (int(how.side * USUAL_ASPECT) // STRIDE)
        * pool5_channels(how.net)
        * 4
    )
    announce(dataset, "validation", usual * len(dataset), path, how.say)
    skipped = Skipped(LABEL, how.say)
    on_bad = (lambda index, error: skipped.report([error.what])) if how.on_error == "skip" else None
    pool5, rows = trunk_of(how), []
    wanted = {Scale(how.side, how.net.spec.preprocessing.filter): np.ones(len(dataset), bool)}
    with (
        few_sizes(),
        open(partial, "wb") as file,
        progress(f"validation features of net {how.net.spec.arch}", len(dataset)) as bar,
    ):
        for batch in size_batches(dataset, wanted, BATCH, how.threads, on_bad):
            maps = pool5(batch.images).cpu().contiguous().numpy()
            file.write(maps.tobytes())
            rows += [(int(index), *maps.shape[2:]) for index in batch.indices]
            bar.advance(len(batch.indices))
    return rows


def map_validation(how: Extraction, maps: Maps, dataset: Dataset, precision: str) -> Validate:
    """A function that gives the head's present errors: dense at one scale, as
    `validation.dense_validation`.
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
        return errors_of(counts, dataset, how.say)

    return validate
