"""Pairs this run's answers with an earlier run's, image by image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.compare import Pair, compare
from bench.accuracy.measure import Accuracy
from bench.earlier.csv_files import grouped
from bench.earlier.run import ROW, EarlierRun, shown_names
from vgg_deploy.errors import InputError
from vgg_deploy.scoring import error_pct

RowKey = tuple[object, ...]  # the values of ROW


class RowErrors(NamedTuple):
    """Errors of one row in both runs, on the images of both, per cent; NaN without labels."""

    old_top1: float
    new_top1: float
    old_top5: float
    new_top5: float


class EarlierPair(NamedTuple):
    """A row beside the same row of an earlier run.

    Attributes:
        pair: Both rows, of the images of both runs.
        files: Names of these images.
        errors: In both runs.
    """

    pair: Pair
    files: list[str]
    errors: RowErrors


@dataclass(frozen=True)
class Answers:
    """What the two runs have in common.

    Attributes:
        pairs: Rows of both runs.
        label: Of the earlier run, see `EarlierRun.label`.
        images: A sentence about which images were compared.
        new: Rows that the earlier run lacks.
        lost: Rows that only the earlier run has.
    """

    pairs: list[EarlierPair]
    label: str
    images: str
    new: list[str]
    lost: list[str]


def compare_answers(earlier: EarlierRun, accuracy: Accuracy) -> Answers:
    """Pair the rows of both runs.

    Args:
        earlier: The earlier run.
        accuracy: What this run measured.

    Raises:
        InputError: If a table of the earlier run is damaged.
    """
    table = earlier.predictions
    of_row: Mapping[RowKey, pd.DataFrame] = {} if table is None else grouped(table, ROW)
    matching = _Matching(earlier, accuracy)
    pairs, new, keys = [], [], set()
    for scored in accuracy.scored:
        key = _key(scored)
        keys.add(key)
        found = matching.paired(scored, of_row[key]) if key in of_row else None
        if found is None:
            new.append(_shown(key))
        else:
            pairs.append(found)
    lost = [_shown(key) for key in of_row if key not in keys]
    return Answers(pairs, earlier.label, matching.sentence(bool(pairs)), new, lost)


def _key(scored: Scored) -> RowKey:
    return tuple(getattr(scored.record, name) for name in ROW)


def _shown(key: RowKey) -> str:
    """A row for people."""
    model, runtime, precision, protocol, scales, flips = key
    mirrored = "flips" if flips else "no flips"
    return f"{model} ({runtime} {precision}), {protocol}, Q {scales}, {mirrored}"


class _Matching:
    """Finds the images of both runs: those of one name, and of one content where both kept it."""

    def __init__(self, earlier: EarlierRun, accuracy: Accuracy):
        self.earlier, self.accuracy = earlier, accuracy
        self.position = {name: index for index, name in enumerate(accuracy.files)}
        self.hashes = hashes_of(accuracy)
        self.by_hash = bool(self.hashes and earlier.image_hashes)
        self.changed: set[str] = set()  # images of both names with another content
        self.relabelled: set[str] = set()
        self.common = 0

    def paired(self, scored: Scored, table: pd.DataFrame) -> EarlierPair | None:
        """One row, on the images of both runs; None if they have none in common."""
        old_at, new_at = self._positions(scored, table)
        self.common = max(self.common, len(new_at))
        if not len(new_at):
            return None
        old_table = table.iloc[old_at]
        new = _on(scored, new_at)
        old = _earlier_row(new, old_table, self.earlier.label, self.accuracy.classes)
        if not old.labelled:
            new = replace(new, ranks=np.zeros(0, np.int64), labels=np.zeros(0, np.int64))
        files = [self.accuracy.files[i] for i in new_at]
        pair = Pair(old, new, compare(old, new, None), None)
        return EarlierPair(pair, files, _errors(old, new))

    def _positions(self, scored: Scored, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images of both runs, in the earlier table and among this run's."""
        old_at, new_at = [], []
        ids = self.accuracy.classes.ids
        names = table["image"]
        if names.duplicated().any():
            path = self.earlier.folder / "predictions.csv"
            raise InputError(f"{path}: names an image twice in one row of the accuracy table")
        for at, (name, label) in enumerate(zip(names, table["label"], strict=True)):
            position = self.position.get(name)
            if position is None:
                continue
            if self.by_hash and self.earlier.image_hashes.get(name) != self.hashes[name]:
                self.changed.add(name)
                continue
            if label and scored.labelled and label != ids[scored.labels[position]]:
                self.relabelled.add(name)
                continue
            old_at.append(at)
            new_at.append(position)
        return np.array(old_at, np.int64), np.array(new_at, np.int64)

    def sentence(self, compared: bool) -> str:
        """Which images were compared."""
        if not compared:
            return "No row and image of both runs is the same, so no answers are compared."
        here = len(self.accuracy.files)
        how = "the same content (SHA-256)" if self.by_hash else "the same name"
        text = f"Compared on the {self.common:,} of {here:,} images with {how} in both runs."
        if not self.by_hash:
            text += f" {self.earlier.folder} has no images.csv, so another content may go unseen."
        if self.changed:
            text += f" Another content: {shown_names(sorted(self.changed))}."
        if self.relabelled:
            text += f" Left out, as their label is another now: {len(self.relabelled):,} images."
        return text


def hashes_of(accuracy: Accuracy) -> dict[str, str]:
    """SHA-256 of the images that the rows hold, by name; empty if they were not hashed.

    Args:
        accuracy: What was measured.
    """
    content = accuracy.measured.content
    if content is None:
        return {}
    digests = content.digests[accuracy.positions]
    return {
        name: digest.tobytes().hex() for name, digest in zip(accuracy.files, digests, strict=True)
    }


def _on(scored: Scored, at: np.ndarray) -> Scored:
    """The same row on some of its images."""
    labelled = scored.labelled
    return replace(
        scored,
        record=replace(scored.record, images=len(at)),
        best=scored.best[at],
        confidence=scored.confidence[at],
        margin=scored.margin[at],
        ranks=scored.ranks[at] if labelled else scored.ranks,
        labels=scored.labels[at] if labelled else scored.labels,
    )


def _earlier_row(new: Scored, table: pd.DataFrame, label: str, classes: ClassIndex) -> Scored:
    """The earlier row of the same images, in this run's numbering of classes.

    A class that no net of this run has gets a number of its own.
    """
    number = {id: index for index, id in enumerate(classes.ids)}
    best = [number.setdefault(id, len(number)) for id in table["best"]]
    labelled = new.labelled and bool(table["rank"].notna().all())
    none = np.zeros(0, np.int64)
    return Scored(
        row=new.row,
        record=replace(new.record, model=f"{new.record.model} of {label}"),
        best=np.array(best, np.int64),
        confidence=table["posterior"].to_numpy(np.float32),
        margin=np.full(len(table), nan),
        ranks=table["rank"].to_numpy(np.int64) - 1 if labelled else none,
        labels=new.labels if labelled else none,
    )


def _errors(old: Scored, new: Scored) -> RowErrors:
    if not old.labelled:
        return RowErrors(nan, nan, nan, nan)
    (old1, new1), (old5, new5) = (
        tuple(error_pct(one.ranks, k) for one in (old, new)) for k in (1, 5)
    )
    return RowErrors(old1, new1, old5, new5)
