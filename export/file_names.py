"""Names the files of an export, and says when one replaces the file of another net."""

import json
import os
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact, read_distance
from vgg_deploy.exported.interface import USUAL, Interface
from vgg_deploy.exported.metadata import Artifact, manifest_path, read_manifest
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.json_files import JsonObject

USUAL_FORM = "uint8"  # of the input; file names do not mention it
# In the names of files that give outputs of layers, boxes, or scores and boxes
FEATURES, LOCALISER, BOTH = "features", "boxes", "scores-boxes"


def onnx_name(
    stem: str, form: str, precision: str, kind: str = "", interface: Interface = USUAL
) -> str:
    """The name of an ONNX file: D.fp16.onnx, D.normalised.fp16.onnx, D.whole.fp32.onnx.

    Args:
        stem: The user's name, or the configuration's letter.
        form: What the graph takes as input, one of INPUT_FORMS or WHOLE.
        precision: Such as "fp16".
        kind: What the graph gives; empty for posterior and score map alone.
        interface: What is unusual about its input and outputs.
    """
    parts = [stem, kind, "" if form == USUAL_FORM else form]
    if interface.side is not None and interface.view != "dense":
        parts.append(interface.view)
    parts += ["logits" if interface.logits else "", interface.text(), precision, "onnx"]
    return ".".join(filter(None, parts))


def replaces(path: Path, artifact: Artifact, quantization: dict[str, object] | None) -> str:
    """A sentence about an older file that an export will replace.

    Args:
        path: The final name.
        artifact: Description of the new file.
        quantization: Of the new file, as its manifest will describe it; None if it has none.

    Returns:
        Empty if there is no file, or if it is the same export: same source and settings.
    """
    if not os.path.lexists(path):
        return ""
    try:
        older = read_onnx_metadata(path)[0]
        manifest = read_manifest(path, "", "") if manifest_path(path).is_file() else JsonObject({})
    except InputError:
        return f"{path}: will be replaced; it is not a whole export of this program"
    if older.source_sha256 != artifact.source_sha256:
        what = f"the export of another net, {older.source}"
    elif older.spec != artifact.spec:
        what = "an export of the same source with other classes or another input"
    elif older.interface != artifact.interface:
        what = "an export of the same source with another Q"
    elif older.outputs != artifact.outputs:
        what = f"an export of the same source that gives {', '.join(older.outputs)}"
    elif quantization and manifest.get("quantization") != _as_read(quantization):
        what = "an export of the same source that is quantized in another way"
    else:
        return ""
    return f"{path}: {what}, will be replaced"


def replaces_distance(
    path: Path, artifact: DistanceArtifact, quantization: dict[str, object] | None
) -> str:
    """As `replaces`, of a distance file.

    Args:
        path: The final name.
        artifact: Description of the new file.
        quantization: Of the new file, as its manifest will describe it; None if it has none.

    Returns:
        Empty if there is no file, or if it is the same export: same source and settings.
    """
    if not os.path.lexists(path):
        return ""
    try:
        older = read_distance(path)
        manifest = read_manifest(path, "", "") if manifest_path(path).is_file() else JsonObject({})
    except InputError:
        older, manifest = None, JsonObject({})
    if older is None:
        return f"{path}: will be replaced; it is not a whole distance file of this program"
    if older.source_sha256 != artifact.source_sha256:
        what = f"a distance by another net, {older.source}"
    elif older.spec != artifact.spec:
        what = "a distance by the same source with another input"
    elif (older.terms, older.heads) != (artifact.terms, artifact.heads):
        what = "a distance by other layers, weights or heads"
    elif quantization and manifest.get("quantization") != _as_read(quantization):
        what = "a distance by the same source that is quantized in another way"
    else:
        return ""
    return f"{path}: {what}, will be replaced"


def _as_read(described: dict[str, object]) -> object:
    """What a JSON file that has this contains when it is read again."""
    return json.loads(json.dumps(described))
