"""Describes exported files that give the distance of two images.

They are another kind of file than classifiers, with a record and a metadata entry of their own, so
that neither is taken for the other.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN, INPUT_FORMS, read_manifest
from vgg_deploy.exported.onnx_wire import LENGTH_DELIMITED, data_files, fields, mapped
from vgg_deploy.json_files import JsonObject, as_object, entry, parse_json
from vgg_deploy.net.outputs import layers
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.regular_files import is_regular

DISTANCE_KEY = "vgg_deploy.distance"  # of the metadata entry
VERSION = 1
INPUTS = ("image0", "image1")  # (N, 3, H, W) RGB each
OUTPUT = "distance"  # (N,) float32
KINDS = {
    "lpips": "learned perceptual image patch similarity",
    "perceptual": "weighted mean squared difference of features",
    "gram": "weighted squared difference of Gram matrices",
}
MODEL_METADATA = 14  # field of onnx.proto's ModelProto: pairs of strings
KEY_FIELD, VALUE_FIELD = 1, 2
TRUNK = ("arch", "width", "lrn", "preprocessing")  # fields of NetSpec that a trunk has


class Term(NamedTuple):
    """One layer's part of a distance.

    Attributes:
        layer: Its name.
        weight: Its part is multiplied by this.
    """

    layer: str
    weight: float


@dataclass(frozen=True)
class DistanceArtifact:
    """Where a distance file comes from and what it computes.

    Its inputs are INPUTS, its output is OUTPUT.

    Attributes:
        kind: One of KINDS.
        spec: The net's convolutions, of `trunk_spec`.
        input: One of INPUT_FORMS.
        precision: "fp32", ... of the convolutions. The rest is float32.
        source: Name of the file with the weights.
        source_sha256: Of that file.
        terms: In running order; of lpips each has the weight 1.
        heads: Which linear heads lpips has; empty for other kinds.
    """

    kind: str
    spec: NetSpec
    input: str
    precision: str
    source: str
    source_sha256: str
    terms: tuple[Term, ...]
    heads: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Whose features are compared, in running order."""
        return tuple(term.layer for term in self.terms)

    @property
    def least_side(self) -> int:
        """Shortest side of an image, pixels, for which every layer has a value."""
        pools = {layer.name: layer.pools for layer in layers(self.spec)}
        return max(1 << pools[name] for name in self.layers)

    def to_json(self) -> str:
        """Write all fields, and the version of this form."""
        spec = asdict(self.spec)
        described = {
            "version": VERSION,
            "distance": self.kind,
            "input": self.input,
            "precision": self.precision,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "terms": [[term.layer, term.weight] for term in self.terms],
            "heads": self.heads,
            "net": {name: spec[name] for name in TRUNK},
        }
        return json.dumps(described, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "DistanceArtifact":
        """Read what `to_json` wrote; other fields are ignored.

        Args:
            text: JSON.
            where: Names the file in errors.

        Raises:
            InputError: For a damaged text, or one of another version.
        """
        return cls.from_fields(as_object(parse_json(text, where, EXPORT_AGAIN), where), where)

    @classmethod
    def from_fields(cls, described: JsonObject, where: str) -> "DistanceArtifact":
        """Read what `to_json` wrote, after parsing.

        Args:
            described: By name; others are ignored.
            where: Names the file in errors.

        Raises:
            InputError: As `from_json`.
        """

        def text(key: str) -> str:
            return entry(described, key, str, where, EXPORT_AGAIN)

        version = entry(described, "version", int, where, EXPORT_AGAIN)
        if version != VERSION:
            raise InputError(
                f"{where}: metadata version {version}, this program reads {VERSION}", EXPORT_AGAIN
            )
        for key, known in (("distance", KINDS), ("input", INPUT_FORMS)):
            if text(key) not in known:
                raise InputError(
                    f"{where}: {key} {text(key)!r:.60} is unknown; choose one of {', '.join(known)}"
                )
        spec = _trunk(entry(described, "net", dict, where, EXPORT_AGAIN), where)
        return cls(
            kind=text("distance"),
            spec=spec,
            input=text("input"),
            precision=text("precision"),
            source=text("source"),
            source_sha256=text("source_sha256"),
            terms=_terms(entry(described, "terms", list, where, EXPORT_AGAIN), spec, where),
            heads=text("heads"),
        )


def read_distance(path: Path) -> DistanceArtifact | None:
    """Read the description of a distance file.

    Args:
        path: Any model file.

    Returns:
        None for a file of another kind.

    Raises:
        InputError: If the file is damaged, or its description is.
    """
    if not is_regular(path):
        return None
    if path.suffix == ".engine":
        described = read_manifest(path, "nothing is known of it", "build it again").get("artifact")
        if not isinstance(described, dict) or "distance" not in described:
            return None
        return DistanceArtifact.from_fields(described, str(path))
    if path.suffix != ".onnx":
        return None
    text = onnx_metadata(path).get(DISTANCE_KEY)
    if text is None:
        return None
    data_files(path)  # before anything follows the file to its weights
    return DistanceArtifact.from_json(text, str(path))


def refuse_distance(path: Path | str, metadata: dict[str, str]) -> None:
    """Refuse a distance file where a classifier is wanted.

    Args:
        path: The file, for messages.
        metadata: Its entries.

    Raises:
        InputError: If it is one.
    """
    if DISTANCE_KEY in metadata:
        raise not_a_classifier(path)


def not_a_classifier(path: Path | str) -> InputError:
    """The error for a distance file where a classifier is wanted."""
    return InputError(
        f"{path}: gives the distance of two images and neither scores nor features; "
        "give a file with scores or features here"
    )


def not_a_distance(path: Path | str) -> InputError:
    """The error for another file where a distance file is wanted."""
    return InputError(
        f"{path}: gives no distance of two images; export one, such as D.lpips.fp32.onnx"
    )


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata entries of an ONNX file, without its weights in memory.

    Args:
        path: The file.

    Raises:
        InputError: If it is damaged.
    """
    found: dict[str, str] = {}
    with mapped(path) as view:
        try:
            for field in fields(view, 0, len(view)):
                if field.number != MODEL_METADATA or field.wire_type != LENGTH_DELIMITED:
                    continue
                pair = {
                    part.number: bytes(view[part.value : part.end])
                    for part in fields(view, field.value, field.end)
                }
                key = pair.get(KEY_FIELD, b"").decode("utf-8")
                found[key] = pair.get(VALUE_FIELD, b"").decode("utf-8")
        except ValueError as error:
            raise InputError(
                f"{path}: not a model that ONNX Runtime can load ({error}); export it again"
            ) from None
    return found


def _trunk(described: JsonObject, where: str) -> NetSpec:
    """The net of a description.

    Raises:
        InputError: If a field is missing, unknown or invalid.
    """
    if set(described) != set(TRUNK):
        raise InputError(
            f"{where}: its net has the fields {str(sorted(described)):.80}, expected "
            f"{', '.join(TRUNK)}",
            EXPORT_AGAIN,
        )
    whole = {"classes": [], "names": [], "crop": 224, "train_side": [256, 256], "recipe": ""}
    return NetSpec.from_json(json.dumps({**whole, **described}), where)


def _terms(listed: list[object], spec: NetSpec, where: str) -> tuple[Term, ...]:
    """The terms of a description.

    Raises:
        InputError: If they are not layers of the net in running order with positive weights.
    """
    terms = []
    for one in listed:
        match one:
            case [str(layer), int() | float() as weight] if not isinstance(weight, bool):
                terms.append(Term(layer, float(weight)))
    known = [layer.name for layer in layers(spec)]
    names = [term.layer for term in terms]
    is_sound = len(terms) == len(listed) and names and names == [n for n in known if n in names]
    if not is_sound or not all(0 < term.weight < math.inf for term in terms):
        raise InputError(
            f"{where}: the terms {str(listed):.80} are not layers of net {spec.arch} in running "
            "order with positive weights",
            EXPORT_AGAIN,
        )
    return tuple(terms)
