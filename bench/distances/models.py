"""Tells distance files from others, and opens them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact, read_distance

if TYPE_CHECKING:
    from vgg_deploy.runtimes.distances import DistanceRuntime


@dataclass(frozen=True, eq=False)
class DistanceModel:
    """An opened distance file.

    Attributes:
        path: The file.
        name: In the tables.
        runtime: Runs it.
    """

    path: Path
    name: str
    runtime: "DistanceRuntime"

    @property
    def described(self) -> dict[str, str]:
        """The first columns of every row of this model."""
        return {
            "model": self.name,
            "runtime": self.runtime.name,
            "precision": self.runtime.artifact.precision,
        }


def are_distances(paths: Sequence[Path]) -> bool:
    """Whether all of some files give distances; False if none does.

    Raises:
        InputError: If some do and others do not, or a file is damaged.
    """
    kinds = [(path, read_distance(path) is not None) for path in paths]
    if not any(is_distance for _, is_distance in kinds):
        return False
    others = [path for path, is_distance in kinds if not is_distance]
    if others:
        distance = next(path for path, is_distance in kinds if is_distance)
        raise InputError(
            f"{distance}: gives the distance of two images, and {others[0]} does not; "
            "measure the two kinds of files in two runs"
        )
    return True


def open_distance_models(
    paths: Sequence[Path], device: str, threads: int, runtimes: Sequence[str]
) -> list[DistanceModel]:
    """Open every file in every runtime.

    Args:
        paths: The files.
        device: "cpu" or "cuda".
        threads: Of the CPU.
        runtimes: Of each file; empty for the usual one.

    Raises:
        InputError: For a file that cannot be opened, or that is named twice.
    """
    from vgg_deploy.runtimes.distance_files import open_distance  # here: it imports PyTorch

    models: list[DistanceModel] = []
    own_names = [path.name for path in dict.fromkeys(paths)]
    for path in paths:
        for runtime in runtimes or (None,):
            name = path.name if own_names.count(path.name) == 1 else str(path)
            name += f" {runtime}" if len(runtimes) > 1 else ""
            if name in [model.name for model in models]:
                raise InputError(f"{name}: is named twice; name every file once")
            models.append(DistanceModel(path, name, open_distance(path, device, threads, runtime)))
    return models


def are_comparable(one: DistanceArtifact, other: DistanceArtifact) -> bool:
    """Whether two files measure the same distance, so that their values can be compared."""
    return (one.kind, one.terms, one.heads, one.spec, one.source_sha256) == (
        other.kind,
        other.terms,
        other.heads,
        other.spec,
        other.source_sha256,
    )
