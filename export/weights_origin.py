"""Describes what foreign weights do not say of themselves: what was stated, and what is assumed."""

import hashlib
from pathlib import Path

from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.spec import NetSpec, numbered


def source_lines(
    source: Path, spec: NetSpec, classes: ClassList | None, assumed: Assumed | None
) -> list[str]:
    """What is assumed of a source.

    Args:
        source: The file, for messages.
        spec: Of its net.
        classes: As listed by the user.
        assumed: For foreign weights.

    Returns:
        Sentences; none for a checkpoint with class ids.
    """
    lines = []
    if assumed:
        lines += assumed.lines(str(source), "state another with --mean, --std, --channel-order")
    if class_order(spec, classes) == "numbered":
        lines.append(
            f"{source}: names no classes, so they are numbered from 0 in the order of its scores; "
            "--classes FILE names them"
        )
    return lines


def class_order(spec: NetSpec, classes: ClassList | None) -> str:
    """Where the order of the classes is from: "class list", "source", or "numbered" if neither.

    Empty for convolutions alone.
    """
    if not spec.has_head:
        return ""
    if classes:
        return "class list"
    return "numbered" if spec.classes == numbered(len(spec.classes)) else "source"


def recorded(
    source: Path, spec: NetSpec, classes: ClassList | None, assumed: Assumed | None
) -> dict[str, object]:
    """The same as `source_lines`, for the manifest."""
    record: dict[str, object] = {"class_order": class_order(spec, classes)}
    if assumed:
        record["source_input"] = f"{assumed.input} ({assumed.input_from})"
    lines = source_lines(source, spec, classes, assumed)
    if lines:
        record["assumed"] = lines
    return record


def weights_identity(source_sha256: str, assumed: Assumed | None) -> str:
    """Hex digest of all that decides a net's scores.

    Args:
        source_sha256: Of its file.
        assumed: The input that is assumed for foreign weights.
    """
    if assumed is None:
        return source_sha256
    return hashlib.sha256(f"{source_sha256} {assumed.input}".encode()).hexdigest()
