"""The manifest of a cell: a .json file that describes it to people and stores its times.

The times have a CRC-32 of their own. The rows of the cell are valid without the manifest.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from click import echo

from bench.accuracy.cell_files import Damaged, manifest_path, partial_path, set_aside
from bench.accuracy.cell_identity import FORMAT, identity_checksum
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import JsonObject, entry, read_json_object
from vgg_deploy.machine import cpu_model

KERNELS = "kernels_right_crc32"  # an entry of its own checksum


class Times(NamedTuple):
    """How long the rows of a cell took."""

    seconds: float  # in the runtime, for this cell alone; the sum over all processes
    timed: int  # number of images within these seconds
    machine: dict[str, Any]  # `cell_identity.machine_identity` of where they were measured


class Known(NamedTuple):
    """What a manifest adds to the rows of its cell."""

    times: Times
    kernels: bool  # as in `write_manifest`


def write_manifest(
    path: Path, identity: dict[str, Any], finished: int, times: Times, kernels: bool = False
) -> None:
    """Write the manifest of a cell.

    Args:
        path: Final path of the cell.
        identity: Of the cell.
        finished: Number of rows that are scored.
        times: Of these rows.
        kernels: Whether the integer kernels of such a CPU were found right, for the model and the
            images of the cell.
    """
    fields = times._asdict()
    checksum = identity_checksum({**identity, **fields})
    manifest = {**identity, "finished": finished, **fields, "times_crc32": checksum}
    if kernels:
        manifest[KERNELS] = _kernels_checksum(identity)
    write_text(manifest_path(path), json.dumps(manifest, indent=2) + "\n")


def read_manifest(path: Path, identity: dict[str, Any]) -> Known | None:
    """Read the manifest of a cell.

    A manifest that cannot be read is set aside alone, for the rows are valid without it. One that
    names another cell contradicts the rows: then both are set aside.

    Args:
        path: Final path of the cell.
        identity: Of the cell.

    Returns:
        None if there is no manifest, or no valid one.
    """
    manifest = manifest_path(path)
    if not os.path.lexists(manifest):
        return None
    try:
        content = _json_object(manifest)
        if {name: content.get(name) for name in identity} == identity:
            kernels = content.get(KERNELS) == _kernels_checksum(identity)
            return Known(_checked_times(content, identity), kernels)
    except Damaged:
        set_aside(manifest, "is damaged, or no manifest of a cell", "only the times in it are lost")
        return None
    for file in (manifest, path, partial_path(path)):
        if os.path.lexists(file):
            set_aside(file, "its manifest is that of another cell")
    return None


def report_old_cells(folder: Path) -> None:
    """Print one line on stderr if the folder contains cells of another format.

    They are not used.
    """
    old = [path for path in folder.glob("*.json") if _format_of(path) not in (None, FORMAT)]
    if old:
        number = "1 cell" if len(old) == 1 else f"{len(old)} cells"
        echo(
            f"{folder}: {number} of another version of vgg-bench will not be used; delete the "
            "folder when no other version needs it",
            err=True,
        )


def _kernels_checksum(identity: dict[str, Any]) -> int:
    """What a manifest says if integer kernels were found right, on a CPU of this kind."""
    return identity_checksum({**identity, KERNELS: cpu_model()})


def _checked_times(manifest: JsonObject, identity: dict[str, Any]) -> Times:
    """Take the times from a manifest.

    Raises:
        Damaged: If they are not valid.
    """
    where = "the manifest"
    try:
        seconds = entry(manifest, "seconds", float, where)
        timed = entry(manifest, "timed", int, where)
        machine = entry(manifest, "machine", dict, where)
        checksum = entry(manifest, "times_crc32", int, where)
    except InputError as error:
        raise Damaged(error.what) from None
    as_written = {name: manifest[name] for name in Times._fields}
    if checksum != identity_checksum({**identity, **as_written}):
        raise Damaged("its times have another checksum")
    if not math.isfinite(seconds) or seconds < 0 or timed < 0:
        raise Damaged("its times are not valid")
    return Times(seconds, timed, machine)


def _json_object(path: Path) -> JsonObject:
    """Read a JSON object.

    Raises:
        Damaged: If the file is not one.
    """
    if not path.is_file():
        raise Damaged("is not a regular file")
    try:
        return read_json_object(path)
    except InputError as error:
        raise Damaged(error.what) from None


def _format_of(manifest: Path) -> object:
    """Format of a cell by its manifest; None if the file is not a manifest."""
    try:
        return _json_object(manifest).get("format")
    except Damaged:
        return None
