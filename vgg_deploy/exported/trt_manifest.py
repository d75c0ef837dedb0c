"""Describes TensorRT engines: their profiles, and the manifest beside each engine file."""

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, manifest_path, read_manifest
from vgg_deploy.files import sha256
from vgg_deploy.json_files import entry

VERSION = 1
REBUILD = "build it again"


class InputShape(NamedTuple):
    """The shape of a batch of images."""

    batch: int
    height: int
    width: int


class Profile(NamedTuple):
    """An optimization profile: which shapes an engine takes, and for which it is fastest."""

    min: InputShape
    opt: InputShape
    max: InputShape

    def takes(self, shape: InputShape) -> bool:
        """Whether the engine runs images of this shape with the profile."""
        bounds = zip(self.min, shape, self.max, strict=True)
        return all(low <= size <= high for low, size, high in bounds)

    def distance(self, shape: InputShape) -> int:
        """Pixels between a shape and the optimum, over the whole batch."""
        return abs(prod(shape) - prod(self.opt))

    def ranges(self) -> str:
        """The shapes that it takes, as batch x height x width."""
        bounds = zip(self.min, self.max, strict=True)
        return " x ".join(f"{low}-{high}" for low, high in bounds)


@dataclass(frozen=True)
class EngineManifest:
    """What is known of an engine file."""

    artifact: Artifact  # of the net, with its precision
    flavour: str  # "tensorrt", "rtx"
    version: str | None  # of TensorRT; an engine runs in no other
    targets: tuple[str, ...]  # "sm80", ...
    profiles: tuple[Profile, ...]
    inputs: dict[str, str]  # name -> type and shape
    outputs: dict[str, str]
    convolutions: dict[str, str]  # name -> type of what it multiplies: "INT8", "HALF", ...
    # Of GPU memory; one number per profile where the builder reports them separately
    activation_bytes: tuple[int, ...]
    build_seconds: float
    sha256: str
    bytes: int
    onnx: str  # name of the file it was built from
    onnx_sha256: str

    def to_json(self) -> str:
        """Write all fields, and the version of this form."""
        fields = {
            **asdict(self),
            "manifest": VERSION,
            "artifact": json.loads(self.artifact.to_json()),
            "profiles": [_profile_fields(profile) for profile in self.profiles],
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    def nearest(self, shape: InputShape) -> int:
        """Find the profile for a batch.

        Args:
            shape: Of the batch.

        Returns:
            Index of the profile that takes the shape and whose optimum is nearest.

        Raises:
            InputError: If none takes it.
        """
        fitting = [i for i, profile in enumerate(self.profiles) if profile.takes(shape)]
        if not fitting:
            ranges = "; ".join(profile.ranges() for profile in self.profiles)
            raise InputError(
                f"a batch of {shape.batch} images of {shape.height}x{shape.width} fits no profile "
                f"of the engine (batch x height x width: {ranges})",
                "build it for this Q, batch size and the aspect ratios of these images",
                "profiles",
            )
        return min(fitting, key=lambda i: self.profiles[i].distance(shape))


def read_engine_manifest(path: Path) -> EngineManifest:
    """Read the manifest beside an engine.

    Args:
        path: The engine.

    Raises:
        InputError: If there is no manifest, or it is damaged.
    """
    where = str(manifest_path(path))
    fields: dict[str, Any] = {**read_manifest(path, "nothing is known of it", REBUILD)}
    artifact = Artifact.from_fields(entry(fields, "artifact", dict, where, REBUILD), where)
    try:
        if fields.pop("manifest") != VERSION:
            raise ValueError("of another version")
        fields["artifact"] = artifact
        fields["profiles"] = tuple(_profile(profile) for profile in fields["profiles"])
        for key in ("targets", "activation_bytes"):
            fields[key] = tuple(fields[key])
        return EngineManifest(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not the manifest of an engine ({error!r})", REBUILD) from None


def check_engine(path: Path) -> EngineManifest:
    """Read the manifest of an engine, and check that the engine is whole and up to date.

    The runtime compares versions and the GPU.

    Args:
        path: The engine.

    Raises:
        InputError: If it has changed or is cut short, or its ONNX file has changed since the build.
    """
    manifest = read_engine_manifest(path)
    size = path.stat().st_size
    if size != manifest.bytes:
        raise InputError(
            f"{path}: has {size:,} bytes, its manifest says {manifest.bytes:,}; "
            "the file is cut short or another one",
            REBUILD,
        )
    if sha256(path) != manifest.sha256:
        raise InputError(
            f"{path}: changed since it was built (its manifest has another sha256)", REBUILD
        )
    onnx = path.parent / manifest.onnx
    if onnx.is_file() and sha256(onnx) != manifest.onnx_sha256:
        raise InputError(
            f"{path}: was built from another {manifest.onnx} than the one beside it now", REBUILD
        )
    return manifest


def _profile_fields(profile: Profile) -> dict[str, list[int]]:
    return {key: list(shape) for key, shape in profile._asdict().items()}


def _profile(fields: Any) -> Profile:
    """Read what `_profile_fields` wrote."""
    shapes = [InputShape(*map(int, fields[key])) for key in ("min", "opt", "max")]
    return Profile(*shapes)
