"""Names the files of an export, and says when one replaces the file of another net."""

from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata

USUAL_FORM = "uint8"  # of the input; file names do not mention it


def onnx_name(stem: str, form: str, precision: str) -> str:
    """The name of an ONNX file, such as D.fp16.onnx or D.normalised.fp16.onnx.

    Args:
        stem: The user's name, or the configuration's letter.
        form: What the graph takes as input, one of INPUT_FORMS.
        precision: Such as "fp16".
    """
    parts = (stem, precision) if form == USUAL_FORM else (stem, form, precision)
    return f"{'.'.join(parts)}.onnx"


def replaces(path: Path, artifact: Artifact) -> str:
    """A sentence about an older file that an export will replace.

    Args:
        path: The final name.
        artifact: Description of the new file.

    Returns:
        Nothing if there is no file, or if it is an export of the same source.
    """
    if not path.exists():
        return ""
    try:
        older = read_onnx_metadata(path)[0]
    except InputError:
        return f"{path}: will be replaced; it is not an export of this program"
    if older == artifact:
        return ""
    if older.source_sha256 != artifact.source_sha256:
        what = f"the export of another net, {older.source}"
    else:
        what = "an export of the same source with other classes or another input"
    return f"{path}: {what}, will be replaced"
