"""What an ONNX file of vgg-export says of itself."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import KEPT, KEY, Artifact
from vgg_deploy.exported.onnx_wire import data_files


def read_onnx_metadata(path: Path) -> tuple[Artifact, tuple[str, ...]]:
    """What an ONNX file says of itself, and the convolutions that it was asked to keep in another type than its precision's.

    Raises: InputError if it is no file of vgg-export.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; write one with vgg-export")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise InputError(f"{path}: not an ONNX file ({error}); export it with vgg-export") from None
    data_files(path)  # before anything follows the file to its weights
    held = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in held or KEPT not in held:
        raise InputError(
            f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; export it with vgg-export"
        )
    return Artifact.from_json(held[KEY], str(path)), tuple(held[KEPT].split(","))
