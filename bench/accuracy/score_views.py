"""Scores whole images and crops of a batch with one net, and writes the posteriors into cells."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.accuracy.cell_store import StoredCell
from bench.accuracy.protocols import Cell, views_per_image
from bench.speed.first_calls import ShapeLog
from vgg_deploy.data.size_batches import Batch
from vgg_deploy.images.crops import VIEW_SETS, cut
from vgg_deploy.images.protocols import DENSE, DENSE_SOFTMAX_FIRST, WHOLE_IMAGE
from vgg_deploy.predict.views import mirror, softmax
from vgg_deploy.predict.whole_images import rescales
from vgg_deploy.runtimes import Scores

Cells = Mapping[Cell, StoredCell]


class ScoredPart(NamedTuple):
    """Some images of a batch, when their posteriors are written."""

    cells: list[Cell]
    images: int
    views: int  # whole images or crops that went through the net


@dataclass(frozen=True)
class ViewScorer:
    """One net, scoring either images or their mirror images."""

    runtime: ShapeLog
    mirrored: bool
    largest_batch: int  # views per call

    def score(self, batch: Batch, cells: Cells) -> Iterator[ScoredPart]:
        """Score the images of a batch that any of the cells lacks.

        Args:
            batch: Images of one size.
            cells: Cells of this net and scale.

        Yields:
            What was written, after each part.
        """
        if rescales(self.runtime.inner):  # such a file cuts its crop by itself
            yield from self._score_kind(self._whole_images, batch, cells)
            return
        yield from self._score_kind(self._whole_images, batch, _of_kind(cells, WHOLE_IMAGE))
        yield from self._score_kind(self._crops, batch, _of_kind(cells, VIEW_SETS))

    def _score_kind(
        self, score: Callable[[np.ndarray, np.ndarray, Cells], int], batch: Batch, cells: Cells
    ) -> Iterator[ScoredPart]:
        """Score the missing images, a few at a time: an interruption loses about one call."""
        if not cells:
            return
        finished = np.all([stored.finished[batch.indices] for stored in cells.values()], axis=0)
        missing = np.flatnonzero(~finished)
        crop = self.runtime.inner.spec.crop
        step = max(1, self.largest_batch // max(views_per_image(cell, crop) for cell in cells))
        for start in range(0, len(missing), step):
            part = missing[start : start + step]
            # a complete batch as it is: selecting all of its rows would copy it out of its buffer
            images = batch.images if len(part) == len(batch.images) else batch.images[part]
            yield ScoredPart(list(cells), len(part), score(images, batch.indices[part], cells))

    def _whole_images(self, images: np.ndarray, indices: np.ndarray, cells: Cells) -> int:
        """Evaluate images densely (section 3.2); one pass gives both readings of the softmax.

        Args:
            images: (N, 3, h, w) uint8 RGB.
            indices: (N,) int, of the images in the data set.
            cells: Cells of whole images.

        Returns:
            Number of views scored.
        """
        started = time.perf_counter()
        scores = self.runtime(self._turned(images))
        seconds = time.perf_counter() - started
        consistency = inconsistency(scores)
        for cell, stored in cells.items():
            if cell.views == DENSE_SOFTMAX_FIRST:
                posteriors = softmax(scores.score_map).mean(axis=(2, 3))
            else:
                posteriors = scores.posterior
            stored.write(indices, posteriors, consistency, seconds)
            if cell.model == 0 and cell.views == DENSE and not cell.mirrored:  # a report's maps
                stored.maps.keep(indices, scores.posterior, scores.score_map)
        return len(images)

    def _crops(self, images: np.ndarray, indices: np.ndarray, cells: Cells) -> int:
        """Average the posteriors of crops; a crop that several view sets share is scored once.

        Args:
            images: (N, 3, h, w) uint8 RGB.
            indices: (N,) int, of the images in the data set.
            cells: Cells of crops.

        Returns:
            Number of views scored.
        """
        spec = self.runtime.inner.spec
        height, width = images.shape[2:]
        crops_of = {cell: VIEW_SETS[cell.views](height, width, spec.crop) for cell in cells}
        distinct = list(dict.fromkeys(crop for crops in crops_of.values() for crop in crops))
        column_of = {crop: column for column, crop in enumerate(distinct)}
        views = self._turned(cut(images, distinct, spec.crop, spec.preprocessing.filter))
        posteriors, consistency, seconds = self._score_views(views)
        posteriors = posteriors.reshape(len(images), len(distinct), -1)
        consistency = consistency.reshape(len(images), len(distinct))
        for cell, stored in cells.items():
            share = seconds * len(set(crops_of[cell])) / len(distinct)
            columns = [column_of[crop] for crop in crops_of[cell]]
            mean = posteriors[:, columns].mean(axis=1, dtype=np.float64)
            stored.write(indices, mean, consistency[:, columns].max(axis=1), share)
        return len(views)

    def _score_views(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Score (n, 3, crop, crop) uint8 views, at most `largest_batch` per call.

        Returns:
            (n, classes) float32 posteriors, (n,) consistency, and seconds in the runtime.
        """
        posteriors, consistency, seconds = [], [], 0.0
        for start in range(0, len(views), self.largest_batch):
            started = time.perf_counter()
            scores = self.runtime(views[start : start + self.largest_batch])
            seconds += time.perf_counter() - started
            posteriors.append(scores.posterior)
            consistency.append(inconsistency(scores))
        return np.concatenate(posteriors), np.concatenate(consistency), seconds

    def _turned(self, views: np.ndarray) -> np.ndarray:
        return mirror(views) if self.mirrored else views


def inconsistency(scores: Scores) -> np.ndarray:
    """Largest difference between a posterior and the softmax of its mean score.

    Returns:
        (N,) float64; NaN where either is NaN.
    """
    with np.errstate(invalid="ignore"):
        mean = scores.score_map.mean(axis=(2, 3), dtype=np.float64)
        largest: np.ndarray = np.abs(scores.posterior - softmax(mean)).max(axis=1)
        return largest


def _of_kind(cells: Cells, views: Mapping[str, object] | tuple[str, ...]) -> Cells:
    return {cell: stored for cell, stored in cells.items() if cell.views in views}
