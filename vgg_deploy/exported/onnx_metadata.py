"""Reads what an ONNX file of vgg-export states about itself."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import (
    DISTANCE_KEY,
    DistanceArtifact,
    not_a_classifier,
)
from vgg_deploy.exported.metadata import KEPT, KEY, Artifact
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.regular_files import is_regular, read_regular

MOST_BYTES = 2**31  # of a protobuf


def read_onnx_metadata(path: Path) -> tuple[Artifact, tuple[str, ...]]:
    """Read the metadata of an ONNX file that gives scores or features.

    Args:
        path: A file of vgg-export.

    Returns:
        Its description, and the convolutions that are to be of another type than its precision's.

    Raises:
        InputError: If it is not a file of vgg-export, or if it gives a distance.
    """
    artifact, kept = read_description(path)
    if isinstance(artifact, DistanceArtifact):
        raise not_a_classifier(path)
    return artifact, kept


def read_description(path: Path) -> tuple[Artifact | DistanceArtifact, tuple[str, ...]]:
    """Read the metadata of an ONNX file of either kind.

    Args:
        path: A file of vgg-export.

    Returns:
        As `read_onnx_metadata`.

    Raises:
        InputError: If it is not a file of vgg-export.
    """
    if not is_regular(path):
        raise InputError(f"{path}: no such file; write one with vgg-export")
    try:
        model = onnx.load_model_from_string(read_regular(path, MOST_BYTES))
    except (DecodeError, OSError) as error:
        raise InputError(f"{path}: not an ONNX file ({error}); export it with vgg-export") from None
    data_files(path)  # before anything follows the file to its weights
    properties: dict[str, str] = {prop.key: prop.value for prop in model.metadata_props}
    is_distance = DISTANCE_KEY in properties
    if not (is_distance or KEY in properties) or KEPT not in properties:
        raise InputError(
            f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; "
            "export it with vgg-export"
        )
    kept = tuple(filter(None, properties[KEPT].split(",")))
    if is_distance:
        return DistanceArtifact.from_json(properties[DISTANCE_KEY], str(path)), kept
    return Artifact.from_json(properties[KEY], str(path)), kept
