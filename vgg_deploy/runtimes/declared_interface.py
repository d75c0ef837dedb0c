"""Compares the inputs and outputs that a library finds in a file with the file's description."""

from collections.abc import Mapping, Sequence

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import INPUTS, OUTPUT, DistanceArtifact
from vgg_deploy.exported.interface import WHOLE
from vgg_deploy.exported.metadata import EXPORT_AGAIN, Artifact
from vgg_deploy.net.outputs import output_shape

# of an output: its type in ONNX's words, and its sides, those that depend on the input as a name
# or None
Declared = tuple[str, Sequence[int | str | None]]

FLOATS, BYTES = "tensor(float)", "tensor(uint8)"


def check_interface(
    artifact: Artifact, inputs: Mapping[str, str], outputs: Mapping[str, Declared], where: str
) -> None:
    """Check a file that gives scores, boxes or features.

    Args:
        artifact: The description.
        inputs: Types by name.
        outputs: By name.
        where: The file, for messages.

    Raises:
        InputError: If they are not those of the description.
    """
    promised = {"image": _input_type(artifact.input)}
    if inputs != promised:
        raise InputError(
            f"{where}: its metadata promises input {promised}, the graph has {dict(inputs)}",
            EXPORT_AGAIN,
        )
    crop = artifact.spec.crop
    for name in artifact.outputs:
        expected = output_shape(artifact.spec, name, (1, 3, crop, crop))
        kind, shape = outputs.get(artifact.interface.graph_name(name), ("", []))
        fits = len(shape) == len(expected) and shape[1] == expected[1]
        if kind != FLOATS or not fits:
            raise InputError(
                f"{where}: its metadata promises {name} of {expected[1]} channels, the "
                f"graph gives {dict(outputs)}",
                EXPORT_AGAIN,
            )


def check_distance_interface(
    artifact: DistanceArtifact,
    inputs: Mapping[str, str],
    outputs: Mapping[str, Declared],
    where: str,
) -> None:
    """Check a file that gives the distance of two images; arguments as `check_interface`.

    Raises:
        InputError: As `check_interface`.
    """
    promised = dict.fromkeys(INPUTS, _input_type(artifact.input))
    ranks = {name: (kind, len(shape)) for name, (kind, shape) in outputs.items()}
    if inputs != promised or ranks != {OUTPUT: (FLOATS, 1)}:
        raise InputError(
            f"{where}: its metadata promises the inputs {promised} and a {OUTPUT} per "
            f"pair, the graph has {dict(inputs)} and gives {dict(outputs)}",
            EXPORT_AGAIN,
        )


def _input_type(form: str) -> str:
    return BYTES if form in ("uint8", WHOLE) else FLOATS
