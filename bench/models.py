"""The files of a benchmark, opened, and how the tables call them."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256
from vgg_deploy.runtimes import PACKAGES, Runtime, open_runtime


@dataclass(frozen=True)
class Model:
    """An opened file."""

    path: Path
    name: str  # in the tables
    runtime: Runtime
    sha256: str

    @property
    def described(self) -> dict:
        """The columns that every row of this model begins with."""
        return {"model": self.name, "runtime": self.runtime.runtime, "precision": self.runtime.precision}

    @property
    def origin(self) -> str:
        """sha256 of the weights it was made from; its own where it is these weights."""
        return self.runtime.artifact.source_sha256 if self.runtime.artifact else self.sha256

    @property
    def identity(self) -> dict:
        """What its posteriors depend on beside the pictures."""
        return {
            "model_sha256": self.sha256,
            "runtime": self.runtime.runtime,
            "version": version(PACKAGES[self.runtime.runtime]),
            "precision": self.runtime.precision,
            "device": self.runtime.device,
        }


def open_models(paths: list[Path], device: str, threads: int) -> list[Model]:
    """Open every file.

    Raises: InputError for a file that is no model.
    """
    short = [path.name for path in paths]
    names = [path.name if short.count(path.name) == 1 else str(path) for path in paths]
    if len(set(names)) < len(names):
        raise InputError(f"{next(n for n in names if names.count(n) > 1)}: is named twice; name every model once")
    return [Model(path, name, open_runtime(path, device, threads), sha256(path)) for path, name in zip(paths, names, strict=True)]


def check_sides(models: list[Model], sides: tuple[int, ...]) -> None:
    """Raises: InputError for a Q below a model's crop, where the score map is empty."""
    for model in models:
        crop = model.runtime.spec.crop
        if min(sides) < crop:
            raise InputError(f"--scales {min(sides)}: below the crop {crop} of {model.path}, so no window fits; the smallest Q is {crop}")
