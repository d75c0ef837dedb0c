"""Collects the comparisons of a file's outputs with its reference's, batch by batch."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from export.verify.feature_parity import FeatureParity, compare_features
from export.verify.parity import ParityResult, compare, scores_in
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.runtimes.contract import Outputs

T = TypeVar("T")


class Compared:
    """What was compared so far; features themselves are not kept, they are large."""

    def __init__(self) -> None:
        self._scores: dict[int, list[ParityResult]] = {}
        self._features: dict[int, list[FeatureParity]] = {}

    def add(
        self,
        index: int,
        found: Outputs,
        reference: Outputs,
        batch: np.ndarray,
        by: str = "PyTorch",
    ) -> None:
        """Compare one batch.

        Args:
            index: Of the batch; results are given in this order.
            found: The file's outputs by name.
            reference: The reference's.
            batch: The images, (N, 3, H, W) uint8.
            by: Name of the reference.

        Raises:
            CheckFailed: If shapes differ.
        """
        if set(SCORES) <= set(found):
            scores = compare([scores_in(found)], [scores_in(reference)], [batch], by)
            self._scores[index] = scores
        layers = tuple(name for name in found if name not in SCORES)
        self._features[index] = compare_features(found, reference, layers, batch, by)

    @property
    def scores(self) -> list[ParityResult]:
        """By batch; empty if the file gives none."""
        return _in_order(self._scores)

    @property
    def features(self) -> list[FeatureParity]:
        """By batch and layer."""
        return _in_order(self._features)


def _in_order(by_batch: Mapping[int, list[T]]) -> list[T]:
    return [result for index in sorted(by_batch) for result in by_batch[index]]
