"""Describes TensorRT engines: their profiles, and the manifest beside each engine file."""

import json
import os
import re
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple, TypeVar

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact
from vgg_deploy.exported.metadata import Artifact, manifest_path, read_manifest
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.files import sha256
from vgg_deploy.json_files import JsonObject, as_object, entry, is_text
from vgg_deploy.regular_files import is_regular, open_regular
from vgg_deploy.sealed_json import sealed

VERSION = 1
MOST_SIZE = 2**31 - 1  # of a dimension, as TensorRT has it
PLAIN_NAME = re.compile(r"[^/\\\0:]{1,255}")
T = TypeVar("T")
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

    artifact: Artifact | DistanceArtifact  # of the net, with its precision
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
        return json.dumps(sealed(fields), indent=2, ensure_ascii=False) + "\n"

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
    fields = read_manifest(path, "nothing is known of it", REBUILD)
    version = entry(fields, "manifest", int, where, REBUILD)
    if version != VERSION:
        raise InputError(
            f"{where}: manifest {version!r:.40}, this program reads {VERSION}", REBUILD
        )
    described = entry(fields, "artifact", dict, where, REBUILD)
    kind = DistanceArtifact if "distance" in described else Artifact
    artifact = kind.from_fields(described, where)

    def text(key: str) -> str:
        return entry(fields, key, str, where, REBUILD)

    def texts(key: str) -> dict[str, str]:
        found = entry(fields, key, dict, where, REBUILD)
        if not all(isinstance(value, str) for value in found.values()):
            raise InputError(f"{where}: {key} has other values than texts", REBUILD)
        return found

    flavour, onnx = text("flavour"), text("onnx")
    if flavour not in FLAVOURS:
        raise InputError(
            f"{where}: flavour {flavour!r:.40} is unknown; choose one of {', '.join(FLAVOURS)}",
            REBUILD,
        )
    if not PLAIN_NAME.fullmatch(onnx):
        raise InputError(f"{where}: names {onnx!r:.60}, expected a file beside it", REBUILD)
    targets = _items(fields, "targets", str, where)
    activation_bytes = _items(fields, "activation_bytes", int, where)
    profiles = tuple(
        _profile(profile, where) for profile in entry(fields, "profiles", list, where, REBUILD)
    )
    if not profiles:
        raise InputError(f"{where}: has no profiles", REBUILD)
    trt_version = None if fields.get("version", "") is None else text("version")
    manifest = EngineManifest(
        artifact,
        flavour,
        trt_version,
        targets,
        profiles,
        texts("inputs"),
        texts("outputs"),
        texts("convolutions"),
        activation_bytes,
        entry(fields, "build_seconds", float, where, REBUILD),
        text("sha256"),
        entry(fields, "bytes", int, where, REBUILD),
        onnx,
        text("onnx_sha256"),
    )
    if not is_text(manifest.to_json()):
        raise InputError(f"{where}: has half a character (a surrogate) in a text", REBUILD)
    return manifest


def _items(fields: JsonObject, key: str, kind: type[T], where: str) -> tuple[T, ...]:
    """The items of a list, all of one type.

    Raises:
        InputError: For anything else.
    """
    found = entry(fields, key, list, where, REBUILD)
    if not all(type(item) is kind for item in found):
        raise InputError(f"{where}: {key} is {found!r:.60}, which has other items", REBUILD)
    return tuple(found)


def check_engine(path: Path) -> EngineManifest:
    """Read the manifest of an engine, and check that the engine is whole and up to date.

    The runtime compares versions and the GPU.

    Args:
        path: The engine.

    Raises:
        InputError: If it has changed or is cut short, or its ONNX file has changed since the build.
    """
    manifest = read_engine_manifest(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", REBUILD) from None
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
    if is_regular(onnx) and sha256(onnx) != manifest.onnx_sha256:
        raise InputError(
            f"{path}: was built from another {manifest.onnx} than the one beside it now", REBUILD
        )
    return manifest


def _profile_fields(profile: Profile) -> dict[str, list[int]]:
    return {key: list(shape) for key, shape in profile._asdict().items()}


def _profile(content: object, where: str) -> Profile:
    """Read what `_profile_fields` wrote.

    Raises:
        InputError: If it is no profile.
    """
    fields = as_object(content, f"{where}: a profile", REBUILD)
    shapes = []
    for key in ("min", "opt", "max"):
        shape = _items(fields, key, int, where)
        if len(shape) != 3 or not all(1 <= size <= MOST_SIZE for size in shape):
            raise InputError(f"{where}: {key} of a profile is {shape!r:.60}", REBUILD)
        shapes.append(InputShape(*shape))
    low, best, high = shapes
    if not all(a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
        raise InputError(f"{where}: a profile has min above opt, or opt above max", REBUILD)
    return Profile(low, best, high)
