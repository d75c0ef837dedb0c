"""Describes exported files: in the ONNX metadata, and again in the manifest beside the file."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import USUAL, WHOLE, Interface
from vgg_deploy.files import sha256
from vgg_deploy.json_files import (
    JsonObject,
    as_object,
    entry,
    is_text,
    parse_json,
)
from vgg_deploy.net.outputs import BOXES, SCORES, all_outputs, head_outputs
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.regular_files import is_regular
from vgg_deploy.sealed_json import read_sealed

KEY = "vgg_deploy"  # of the metadata entry
# Of another entry: convolutions that are to be of another type than the precision's
KEPT = "vgg_deploy.kept"
VERSION = 1
EXPORT_AGAIN = "export it again"

# What the graph's input `image`, (N, 3, H, W) RGB, contains
INPUT_FORMS = {
    "uint8": "0-255 uint8; mean subtraction inside the graph",
    "float32": "0-255 float32; mean subtraction inside the graph",
    "normalised": "float32, (x / 255 - mean) / std with ImageNet's usual mean and std, "
    "done by the caller",
}


@dataclass(frozen=True)
class Artifact:
    """Where an exported file comes from, what input it takes and what it gives.

    Attributes:
        spec: The net.
        input: One of INPUT_FORMS, or WHOLE.
        precision: "fp32", ...
        source: Name of the file it was made from.
        source_sha256: Of that file.
        outputs: Names of what a runtime gives of it: of SCORES, and of layers in running order.
        interface: What is unusual about its input and outputs.
    """

    spec: NetSpec
    input: str
    precision: str
    source: str
    source_sha256: str
    outputs: tuple[str, ...] = SCORES
    interface: Interface = USUAL

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose outputs the graph gives."""
        return tuple(name for name in self.outputs if name not in (*SCORES, BOXES))

    @property
    def maps(self) -> tuple[str, ...]:
        """Outputs that are compared value by value: boxes, and layers."""
        return tuple(name for name in self.outputs if name not in SCORES)

    @property
    def has_boxes(self) -> bool:
        """Whether the graph gives the boxes of a localiser."""
        return BOXES in self.outputs

    @property
    def is_whole(self) -> bool:
        """Whether the graph has all layers."""
        return self.has_scores or self.has_boxes

    @property
    def has_scores(self) -> bool:
        """Whether the graph gives posterior and score map."""
        return set(SCORES) <= set(self.outputs)

    def to_json(self) -> str:
        """Write all fields, and the version of this form."""
        fields = {
            "version": VERSION,
            "input": self.input,
            "precision": self.precision,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "outputs": list(self.outputs),
            "spec": json.loads(self.spec.to_json()),
        }
        if self.interface != USUAL:  # files of earlier versions do not say so either
            fields["interface"] = self.interface.fields()
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Artifact":
        """Read what `to_json` wrote; other fields are ignored.

        Args:
            text: JSON.
            where: Names the file in errors.

        Raises:
            InputError: For a damaged text, or one of another version.
        """
        return cls.from_fields(as_object(parse_json(text, where, EXPORT_AGAIN), where), where)

    @classmethod
    def from_fields(cls, fields: JsonObject, where: str) -> "Artifact":
        """Read what `to_json` wrote, after parsing.

        Args:
            fields: By name; others are ignored.
            where: Names the file in errors.

        Raises:
            InputError: As `from_json`.
        """

        def text(key: str) -> str:
            found = entry(fields, key, str, where, EXPORT_AGAIN)
            if not is_text(found):
                raise InputError(f"{where}: {key} has half a character (a surrogate)", EXPORT_AGAIN)
            return found

        version = entry(fields, "version", int, where, EXPORT_AGAIN)
        if version != VERSION:
            raise InputError(
                f"{where}: metadata version {version}, this program reads {VERSION}", EXPORT_AGAIN
            )
        known = (*INPUT_FORMS, WHOLE)
        if text("input") not in known:
            raise InputError(
                f"{where}: input form {text('input')!r} is unknown; "
                f"choose one of {', '.join(known)}"
            )
        spec = NetSpec.from_json(
            json.dumps(entry(fields, "spec", dict, where, EXPORT_AGAIN)), where
        )
        interface = USUAL
        if "interface" in fields:
            described = JsonObject(entry(fields, "interface", dict, where, EXPORT_AGAIN))
            interface = Interface.from_fields(described, spec.crop, where, EXPORT_AGAIN)
        if (text("input") == WHOLE) != (interface.side is not None):
            raise InputError(
                f"{where}: input form {text('input')!r} contradicts its Q", EXPORT_AGAIN
            )
        return cls(
            spec,
            text("input"),
            text("precision"),
            text("source"),
            text("source_sha256"),
            _outputs(fields, spec, where),
            interface,
        )


def _outputs(fields: JsonObject, spec: NetSpec, where: str) -> tuple[str, ...]:
    """Names of what a graph gives; files of earlier versions give scores and do not say so."""
    if "outputs" not in fields:
        return head_outputs(spec)
    listed = entry(fields, "outputs", list, where, EXPORT_AGAIN)
    known = dict.fromkeys((*(SCORES if spec.has_head else ()), *all_outputs(spec)))
    if not listed or [name for name in known if name in listed] != listed:
        raise InputError(
            f"{where}: the outputs {str(listed):.80} are not some of net {spec.arch}'s in running "
            "order",
            EXPORT_AGAIN,
        )
    return tuple(listed)


def manifest_path(path: Path) -> Path:
    """D.fp32.onnx -> D.fp32.json."""
    return path.with_suffix(".json")


def data_path(path: Path) -> Path:
    """D.fp32.onnx -> D.fp32.onnx.data, its weights if they lie outside."""
    return path.with_name(f"{path.name}.data")


def weights_path(path: Path) -> Path:
    """D.fp32.ncnn.param -> D.fp32.ncnn.bin, D.fp32.xml -> D.fp32.bin."""
    return path.with_suffix(".bin")


def has_weights_beside(path: Path) -> bool:
    """Whether a file is one of ncnn or OpenVINO, whose weights are in a .bin beside it."""
    return Path(path).suffix in (".param", ".xml")


def read_manifest(path: Path, what_is_unknown: str, hint: str) -> JsonObject:
    """Read the manifest beside an exported file.

    Args:
        path: The exported file.
        what_is_unknown: Without its manifest; the end of a sentence.
        hint: What to do about a missing or damaged manifest.

    Raises:
        InputError: If there is no manifest, or it is not a JSON object.
    """
    manifest = manifest_path(path)
    if not os.path.lexists(manifest):
        raise InputError(
            f"{path}: has no manifest {manifest.name} beside it, so {what_is_unknown}", hint
        )
    return read_sealed(manifest, hint)


def check_manifest(path: Path) -> None:
    """Compare an ONNX file, and its weights outside, with the manifest if there is one.

    Args:
        path: The ONNX file.

    Raises:
        InputError: If a file is not the one that the manifest describes.
    """
    manifest = manifest_path(path)
    if not os.path.lexists(manifest):
        return
    hint = f"export {path.name} again"
    fields = read_sealed(manifest, hint)
    described = {path: fields}
    if "data" in fields:
        described[data_path(path)] = JsonObject(entry(fields, "data", dict, str(manifest), hint))
    for file, of_file in described.items():
        if not is_regular(file):
            raise InputError(
                f"{path}: its weights are in {file.name}, which is missing; "
                "keep both files in one folder"
            )
        check_digest(file, of_file, manifest, hint)


def check_digest(
    file: Path, described: JsonObject, manifest: Path, hint: str = EXPORT_AGAIN
) -> None:
    """Compare a file with its size and its digest in a manifest.

    Args:
        file: Any file.
        described: With "sha256", in hex, and "bytes"; earlier versions may lack the latter.
        manifest: Where they were read.
        hint: What to do about a damaged manifest.

    Raises:
        InputError: If the file has changed.
    """
    digest = entry(described, "sha256", str, str(manifest), hint)
    # the size first: the digest of a file with a huge hole would take hours
    if "bytes" in described:
        size = entry(described, "bytes", int, str(manifest), hint)
        found = file.stat().st_size if is_regular(file) else size
        if found != size:
            raise InputError(
                f"{file}: has {found:,} bytes, its manifest {manifest.name} says {size:,}",
                EXPORT_AGAIN,
            )
    if sha256(file) != digest:
        raise InputError(
            f"{file}: changed since it was exported and checked "
            f"({manifest.name} has another sha256)",
            EXPORT_AGAIN,
        )


def content_sha256(path: Path) -> str:
    """Hash a model's bytes: of the file, and for the text of ncnn and OpenVINO also of the weights.

    Args:
        path: Checkpoint or exported file.

    Returns:
        Hex sha256.
    """
    if not has_weights_beside(path):
        return sha256(path)
    return hashlib.sha256((sha256(path) + sha256(weights_path(path))).encode()).hexdigest()
