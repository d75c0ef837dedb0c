"""Keeps the score maps that the report shows, so that no image goes through a net a second time.

While a dense cell of the first model is filled, its score maps stay in memory if all of them are
small enough. The few that the report shows are stored beside the cell, STEM.maps.npz. The members
of such an archive have checksums; one of them is that of the cell's identity.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.accuracy.cell_files import set_aside
from bench.accuracy.cell_identity import identity_checksum
from vgg_deploy.files import whole_file
from vgg_deploy.regular_files import is_regular, open_regular

if TYPE_CHECKING:
    from bench.accuracy.cell_store import StoredCell

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


class KeptMaps:
    """Dense passes of a cell in memory; none of them once they are too many.

    Attributes:
        passes: By the index of the image.
    """

    def __init__(self) -> None:
        self.passes: dict[int, DensePass] = {}
        self._bytes = 0
        self._too_many = False

    def add(self, indices: np.ndarray, posteriors: np.ndarray, score_maps: np.ndarray) -> None:
        """Keep the passes of a batch.

        Args:
            indices: (n,) int, of the images.
            posteriors: (n, classes) float32.
            score_maps: (n, classes, h, w) float32.
        """
        self._bytes += posteriors.nbytes + score_maps.nbytes
        self._too_many = self._too_many or self._bytes > MOST_BYTES
        if self._too_many:
            self.passes.clear()
            return
        for index, posterior, score_map in zip(
            indices.tolist(), posteriors, score_maps, strict=True
        ):
            self.passes[index] = DensePass(posterior.copy(), score_map.copy())


def maps_path(path: Path) -> Path:
    """Path of the stored maps of a cell."""
    return path.with_suffix(".maps.npz")


def known_maps(cell: "StoredCell", images: Iterable[int]) -> dict[int, DensePass]:
    """The dense passes of some images, as far as they are in memory or stored.

    Args:
        cell: Of whole images.
        images: Their indices.
    """
    kept = {index: cell.maps.passes[index] for index in images if index in cell.maps.passes}
    missing = [index for index in images if index not in kept]
    stored = _read(cell) if missing else {}
    return {**kept, **{index: stored[index] for index in missing if index in stored}}


def store_maps(cell: "StoredCell", passes: Mapping[int, DensePass]) -> None:
    """Store these dense passes in place of those that are stored.

    Args:
        cell: Of whole images.
        passes: By the index of the image.

    Raises:
        InputError: If the file cannot be written.
    """
    too_many = sum(one.bytes for one in passes.values()) > MOST_BYTES
    if too_many or set(_read(cell)) == set(passes):
        return
    arrays: dict[str, np.ndarray] = {
        IDENTITY: np.array(identity_checksum(cell.identity), np.uint32),
        IMAGES: np.array(list(passes), np.int64),
    }
    for index, one in passes.items():
        arrays[f"posterior-{index}"], arrays[f"score_map-{index}"] = one
    with whole_file(maps_path(cell.path)) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(cell: "StoredCell") -> dict[int, DensePass]:
    """The stored passes of a cell; a damaged file is set aside with a line on stderr."""
    path = maps_path(cell.path)
    if not os.path.lexists(path):
        return {}
    try:
        if not is_regular(path):
            raise ValueError
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > 2 * MOST_BYTES:
                raise ValueError
        with open_regular(path) as file, np.load(file, allow_pickle=False) as stored:
            if int(stored[IDENTITY]) != identity_checksum(cell.identity):
                raise ValueError
            classes = cell.rows.dtype["posterior"].shape[0]
            return {
                index: _checked(stored[f"posterior-{index}"], stored[f"score_map-{index}"], classes)
                for index in stored[IMAGES].tolist()
            }
    except Exception:  # a damaged archive raises almost anything
        set_aside(path, "is damaged, or holds the score maps of another cell")
        return {}


def _checked(posterior: np.ndarray, score_map: np.ndarray, classes: int) -> DensePass:
    """A pass with the types and shapes that a net gives.

    Raises:
        ValueError: If it has others.
    """
    if posterior.dtype != np.float32 or posterior.shape != (classes,):
        raise ValueError
    if score_map.dtype != np.float32 or score_map.ndim != 3 or len(score_map) != classes:
        raise ValueError
    return DensePass(posterior, score_map)
