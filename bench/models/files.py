"""The files of models, as files.csv lists them: what they hold, and how large they are."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.models.model import Model
from vgg_deploy.exported.metadata import data_path, weights_path
from vgg_deploy.files import sha256
from vgg_deploy.regular_files import is_regular
from vgg_deploy.runtimes import runtime_version

MB = 1e6  # bytes


@dataclass(frozen=True)
class ModelFile:
    """One model. Field names are the columns of files.csv.

    Attributes:
        model: Name of the model.
        runtime: What ran it.
        precision: Of its arithmetic.
        version: Of the runtime.
        size_mb: Of all its files, 10^6 bytes.
        sha256: Of the content of all its files, hex.
        path: Of the file, absolute.
    """

    model: str
    runtime: str
    precision: str
    version: str
    size_mb: float
    sha256: str
    path: str

    def record(self) -> dict[str, object]:
        """By column."""
        return asdict(self)


def parts_of(path: Path) -> list[Path]:
    """The files that a model consists of: itself, and its weights if they lie outside.

    Args:
        path: Of the model.
    """
    beside = [weights_path(path)] if path.suffix == ".param" else [data_path(path)]
    return [path, *(one for one in beside if is_regular(one))]


def size_mb(path: Path) -> float:
    """Size of all files of a model, 10^6 bytes.

    Args:
        path: Of the model.
    """
    return sum(part.stat().st_size for part in parts_of(path)) / MB


def files_sha256(path: Path, own_sha256: str) -> str:
    """Hash all files of a model.

    Args:
        path: Of the model.
        own_sha256: Of `content_sha256`, which does not look at an ONNX file's weights outside.

    Returns:
        Hex sha256.
    """
    outside = data_path(path)
    if not is_regular(outside):
        return own_sha256
    return hashlib.sha256((own_sha256 + sha256(outside)).encode()).hexdigest()


def model_files(models: Sequence[Model]) -> list[ModelFile]:
    """Describe the files of opened models.

    Args:
        models: All models of a run.
    """
    return [
        ModelFile(
            model=model.name,
            runtime=model.runtime.name,
            precision=model.runtime.precision,
            version=runtime_version(model.runtime.name),
            size_mb=size_mb(model.path),
            sha256=files_sha256(model.path, model.sha256),
            path=str(model.path.absolute()),
        )
        for model in models
    ]
