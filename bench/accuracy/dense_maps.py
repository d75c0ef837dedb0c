"""Keeps the score maps that the report shows, so that no image goes through a net a second time.

While a dense cell of the first model is filled, its score maps stay in memory if all of them are
small enough. The few that the report shows are stored beside the cell, STEM.maps.npz. The members
of such an archive have checksums; one of them is that of the cell's identity.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.accuracy.cell_files import set_aside
from bench.accuracy.cell_identity import identity_checksum
from vgg_deploy.files import whole_file
from vgg_deploy.regular_files import is_regular, open_regular

MOST_BYTES = 2**25  # of the maps of one cell in memory, and of a file
IDENTITY, IMAGES = "identity", "images"


class DensePass(NamedTuple):
    """What a net gives for one whole image."""

    posterior: np.ndarray  # (classes,) float32
    score_map: np.ndarray  # (classes, h, w) float32

    @property
    def bytes(self) -> int:
        """In memory."""
        return self.posterior.nbytes + self.score_map.nbytes


class CellMaps:
    """Dense passes of a cell: those of this run's scoring, and those that are stored."""

    def __init__(self, cell: Path, identity: dict[str, Any], classes: int):
        """Keep none yet.

        Args:
            cell: Final path of the cell.
            identity: Of the cell.
            classes: Length of a posterior.
        """
        self.path = cell.with_suffix(".maps.npz")
        self.checksum, self.classes = identity_checksum(identity), classes
        self._kept: dict[int, DensePass] = {}
        self._bytes = 0

    def keep(self, indices: np.ndarray, posteriors: np.ndarray, score_maps: np.ndarray) -> None:
        """Keep the passes of a batch in memory; none at all once they are more than MOST_BYTES.

        Args:
            indices: (n,) int, of the images.
            posteriors: (n, classes) float32.
            score_maps: (n, classes, h, w) float32.
        """
        self._bytes += posteriors.nbytes + score_maps.nbytes
        if self._bytes > MOST_BYTES:
            self._kept.clear()
            return
        for index, *one in zip(indices.tolist(), posteriors, score_maps, strict=True):
            self._kept[index] = DensePass(*(array.copy() for array in one))

    def known(self, images: Iterable[int]) -> dict[int, DensePass]:
        """The dense passes of some images, as far as they are in memory or stored.

        Args:
            images: Their indices.
        """
        kept = {index: self._kept[index] for index in images if index in self._kept}
        missing = [index for index in images if index not in kept]
        stored = self._read() if missing else {}
        return {**kept, **{index: stored[index] for index in missing if index in stored}}

    def store(self, passes: Mapping[int, DensePass]) -> None:
        """Store these dense passes in place of those that are stored, unless they are too large.

        Args:
            passes: By the index of the image.

        Raises:
            InputError: If the file cannot be written.
        """
        too_many = sum(one.bytes for one in passes.values()) > MOST_BYTES
        if too_many or set(self._read()) == set(passes):
            return
        arrays: dict[str, np.ndarray] = {
            IDENTITY: np.array(self.checksum, np.uint32),
            IMAGES: np.array(list(passes), np.int64),
        }
        for index, one in passes.items():
            arrays[f"posterior-{index}"], arrays[f"score_map-{index}"] = one
        with whole_file(self.path) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _read(self) -> dict[int, DensePass]:
        """The stored passes; a damaged file is set aside with a line on stderr."""
        if not os.path.lexists(self.path):
            return {}
        try:
            if not is_regular(self.path):
                raise ValueError
            with open_regular(self.path) as file, zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > 2 * MOST_BYTES:
                    raise ValueError
            with open_regular(self.path) as file, np.load(file, allow_pickle=False) as stored:
                if int(stored[IDENTITY]) != self.checksum:
                    raise ValueError
                names = ("posterior", "score_map")
                return {
                    index: self._checked(*(stored[f"{name}-{index}"] for name in names))
                    for index in stored[IMAGES].tolist()
                }
        except Exception:  # a damaged archive raises almost anything
            set_aside(self.path, "is damaged, or holds the score maps of another cell")
            return {}

    def _checked(self, posterior: np.ndarray, score_map: np.ndarray) -> DensePass:
        """A pass with the types and shapes that a net gives.

        Raises:
            ValueError: If it has others.
        """
        if posterior.dtype != np.float32 or posterior.shape != (self.classes,):
            raise ValueError
        if score_map.dtype != np.float32 or score_map.ndim != 3 or len(score_map) != self.classes:
            raise ValueError
        return DensePass(posterior, score_map)
