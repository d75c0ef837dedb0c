"""What an exported file says of itself: carried in the ONNX metadata, repeated in the manifest beside it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256
from vgg_deploy.net.spec import NetSpec

KEY = "vgg_deploy"  # of the metadata entry
KEPT = "vgg_deploy.kept"  # of another: convolutions that were asked to be in another type than the precision's
VERSION = 1

# What the graph's input `image`, (N, 3, H, W) RGB, holds
INPUT_FORMS = {
    "uint8": "0-255 uint8; mean subtraction inside the graph",
    "float32": "0-255 float32; mean subtraction inside the graph",
    "normalised": "float32, (x / 255 - mean) / std with ImageNet's usual mean and std, done by the caller",
}


@dataclass(frozen=True)
class Artifact:
    """Where an exported file comes from and how it wants to be fed."""

    spec: NetSpec
    input: str  # one of INPUT_FORMS
    precision: str  # "fp32", ...
    source: str  # name of the file it was made from
    source_sha256: str

    def to_json(self) -> str:
        fields = {
            "version": VERSION,
            "input": self.input,
            "precision": self.precision,
            "source": self.source,
        }
        return json.dumps(
            {
                **fields,
                "source_sha256": self.source_sha256,
                "spec": json.loads(self.spec.to_json()),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> "Artifact":
        """Raises: InputError for what this version does not know."""
        try:
            held = json.loads(text)
            if held["version"] != VERSION:
                raise InputError(
                    f"{where}: metadata version {held['version']!r}, this program reads {VERSION}; export it again"
                )
            if held["input"] not in INPUT_FORMS:
                raise InputError(
                    f"{where}: input form {held['input']!r} is unknown; choose one of {', '.join(INPUT_FORMS)}"
                )
            spec = NetSpec.from_json(json.dumps(held["spec"]), where)
            return cls(
                spec, held["input"], held["precision"], held["source"], held["source_sha256"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{where}: its vgg_deploy metadata is damaged ({error!r}); export it again"
            ) from None


def manifest_path(path: Path) -> Path:
    """D.fp32.onnx -> D.fp32.json"""
    return path.with_suffix(".json")


def data_path(path: Path) -> Path:
    """D.fp32.onnx -> D.fp32.onnx.data, its weights where they lie outside"""
    return path.with_name(f"{path.name}.data")


def check_manifest(path: Path) -> None:
    """Refuse a file that is not the one its manifest was written for, or whose weights outside are not; without a manifest there is nothing to compare."""
    manifest = manifest_path(path)
    if not manifest.is_file():
        return
    try:
        held = json.loads(manifest.read_text(encoding="utf-8"))
        wanted = {path: held["sha256"]}
        if "data" in held:
            wanted[data_path(path)] = held["data"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{manifest}: not a manifest of vgg-export ({error!r}); export {path.name} again"
        ) from None
    for file, digest in wanted.items():
        if not file.is_file():
            raise InputError(
                f"{path}: its weights are in {file.name}, which is missing; keep both files in one folder"
            )
        if sha256(file) != digest:
            raise InputError(
                f"{file}: changed since it was exported and checked ({manifest.name} has another sha256); export it again"
            )


def weights_path(path: Path) -> Path:
    """D.fp32.ncnn.param -> D.fp32.ncnn.bin"""
    return path.with_suffix(".bin")


def content_sha256(path: Path) -> str:
    """Hex digest of a model's bytes: of the file, and for ncnn's text of the weights beside it too."""
    if Path(path).suffix != ".param":
        return sha256(path)
    return hashlib.sha256((sha256(path) + sha256(weights_path(path))).encode()).hexdigest()
