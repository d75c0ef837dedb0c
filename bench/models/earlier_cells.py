"""Tells from stored cells that a file has been opened and run before, in the same way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import read_json_object
from vgg_deploy.regular_files import is_regular


def gave_cells(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a model gave at least one posterior of a folder of cells.

    Then its file has been opened and checked by the same version of its runtime.

    Args:
        folder: Of cells; it need not exist.
        identity: Of the model.
    """
    wanted = json.loads(json.dumps(dict(identity)))  # as manifests store it
    for path in sorted(folder.glob("*.json")):
        if not is_regular(path):
            continue
        try:
            manifest = read_json_object(path)
        except InputError:
            continue  # reported when the cell is opened
        finished = manifest.get("finished")
        is_scored = isinstance(finished, int) and finished > 0
        if is_scored and wanted.items() <= {**manifest}.items():
            return True
    return False
