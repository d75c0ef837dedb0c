"""What vgg-export was told of weights that do not say it themselves, and what it assumed instead."""

import hashlib
from pathlib import Path

from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.spec import NetSpec, numbered


def source_lines(
    source: Path, spec: NetSpec, classes: ClassList | None, assumed: Assumed | None
) -> list[str]:
    """What is assumed of a source, a line each; none for a checkpoint with class ids."""
    way_out = "state another with --mean, --std, --channel-order"
    lines = assumed.lines(str(source), way_out) if assumed else []
    if class_order(spec, classes) == "numbered":
        lines.append(
            f"{source}: names no classes, so they are numbered from 0 in the order of its scores; "
            "--classes FILE names them"
        )
    return lines


def class_order(spec: NetSpec, classes: ClassList | None) -> str:
    """Who says in which order the classes are: "class list", "source", or nobody: "numbered"."""
    if classes:
        return "class list"
    return "numbered" if spec.classes == numbered(len(spec.classes)) else "source"


def recorded(
    source: Path, spec: NetSpec, classes: ClassList | None, assumed: Assumed | None
) -> dict[str, object]:
    """The same for the manifest."""
    record: dict[str, object] = {"class_order": class_order(spec, classes)}
    if assumed:
        record["source_input"] = f"{assumed.input} ({assumed.input_from})"
    lines = source_lines(source, spec, classes, assumed)
    if lines:
        record["assumed"] = lines
    return record


def weights_identity(source_sha256: str, assumed: Assumed | None) -> str:
    """Hex digest of all that decides a net's scores: its file, and the input assumed for it."""
    if assumed is None:
        return source_sha256
    return hashlib.sha256(f"{source_sha256} {assumed.input}".encode()).hexdigest()
