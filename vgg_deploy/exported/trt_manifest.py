"""TensorRT engines as files: the profiles that they take, and the manifest that says what a plan cannot say of itself."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.files import sha256

VERSION = 1
REBUILD = "build it again"


class InputShape(NamedTuple):
    """Of a batch of pictures."""

    batch: int
    height: int
    width: int


class Profile(NamedTuple):
    """An optimization profile: what shapes an engine takes, and which one it is fastest at."""

    min: InputShape
    opt: InputShape
    max: InputShape

    def takes(self, shape: InputShape) -> bool:
        return all(
            low <= here <= high for low, here, high in zip(self.min, shape, self.max, strict=True)
        )

    def distance(self, shape: InputShape) -> int:
        """Pixels between `shape` and the optimum, over all the batch."""
        return abs(
            shape.batch * shape.height * shape.width
            - self.opt.batch * self.opt.height * self.opt.width
        )


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
    activation_bytes: tuple[
        int, ...
    ]  # of GPU memory, a profile each where the builder tells them apart
    build_seconds: float
    sha256: str
    bytes: int
    onnx: str  # name of the file it was built from
    onnx_sha256: str

    def to_json(self) -> str:
        held = {
            **asdict(self),
            "manifest": VERSION,
            "artifact": json.loads(self.artifact.to_json()),
        }
        held["profiles"] = [
            {key: list(shape) for key, shape in p._asdict().items()} for p in self.profiles
        ]
        return json.dumps(held, indent=2, ensure_ascii=False) + "\n"

    def nearest(self, shape: InputShape) -> int:
        """Index of the profile that takes `shape` and whose optimum is nearest.

        Raises: InputError if none does.
        """
        fitting = [i for i, profile in enumerate(self.profiles) if profile.takes(shape)]
        if not fitting:
            ranges = "; ".join(
                f"{p.min.batch}-{p.max.batch} x {p.min.height}-{p.max.height} x {p.min.width}-{p.max.width}"
                for p in self.profiles
            )
            raise InputError(
                f"a batch of {shape.batch} pictures of {shape.height}x{shape.width} fits no profile of the engine (batch x height x width: {ranges})",
                "build it for this Q, batch size and the aspect ratios of these photos",
                "profiles",
            )
        return min(fitting, key=lambda i: self.profiles[i].distance(shape))


def read_engine_manifest(path: Path) -> EngineManifest:
    """The manifest beside an engine. Raises: InputError if there is none or it is damaged."""
    manifest = manifest_path(path)
    try:
        held = json.loads(manifest.read_text(encoding="utf-8"))
        if held.pop("manifest") != VERSION:
            raise ValueError("of another version")
        held["artifact"] = Artifact.from_json(json.dumps(held["artifact"]), str(manifest))
        held["profiles"] = tuple(
            Profile(*(InputShape(*map(int, p[key])) for key in ("min", "opt", "max")))
            for p in held["profiles"]
        )
        for key in ("targets", "activation_bytes"):
            held[key] = tuple(held[key])
        return EngineManifest(**held)
    except OSError:
        raise InputError(
            f"{path}: has no manifest {manifest.name} beside it, so nothing is known of it; {REBUILD}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{manifest}: not the manifest of an engine ({error!r}); {REBUILD}"
        ) from None


def check_engine(path: Path) -> EngineManifest:
    """The manifest of an engine that is whole and newer than its ONNX file; versions and GPU are for the runtime to compare.

    Raises: InputError for a file that is changed, cut short, or built from an ONNX file that has changed since.
    """
    manifest = read_engine_manifest(path)
    size = path.stat().st_size
    if size != manifest.bytes:
        raise InputError(
            f"{path}: has {size:,} bytes, its manifest says {manifest.bytes:,}; the file is cut short or another one; {REBUILD}"
        )
    if sha256(path) != manifest.sha256:
        raise InputError(
            f"{path}: changed since it was built (its manifest has another sha256); {REBUILD}"
        )
    onnx = path.parent / manifest.onnx
    if onnx.is_file() and sha256(onnx) != manifest.onnx_sha256:
        raise InputError(
            f"{path}: was built from another {manifest.onnx} than lies beside it now; {REBUILD}"
        )
    return manifest
