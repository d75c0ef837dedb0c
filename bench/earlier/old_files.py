"""Finds the file of an earlier run and opens it as this run opened its own."""

import math
from dataclasses import replace
from pathlib import Path

from bench.earlier.run import EarlierFile, EarlierRun
from bench.models.files import files_sha256, size_mb
from bench.models.model import Model, ModelOptions, open_models
from vgg_deploy.exported.metadata import content_sha256
from vgg_deploy.net.input_convention import NOTHING_STATED
from vgg_deploy.regular_files import is_regular


def find_file(earlier: EarlierRun, file: EarlierFile) -> Path | None:
    """The earlier file where it lay, or in the folder of results; None if neither holds it.

    Args:
        earlier: The earlier run.
        file: What it says of the file.
    """
    stored = Path(file.path)
    for path in (stored, earlier.folder / stored.name):
        if not is_regular(path):
            continue
        # the size first: nothing else is read of a file that somebody's folder names
        same_size = math.isclose(size_mb(path), file.size_mb, rel_tol=1e-9)
        if same_size and _holds(path, file.sha256):
            return path
    return None


def _holds(path: Path, sha256: str) -> bool:
    try:
        return files_sha256(path, content_sha256(path)) == sha256
    except OSError:
        return False


def open_like(path: Path, model: Model, options: ModelOptions) -> Model:
    """Open a file in the runtime and precision of a model of this run.

    Args:
        path: The earlier file.
        model: Of this run.
        options: How this run opens files.

    Raises:
        InputError: If it cannot be opened so.
    """
    (opened,) = open_models(
        [path],
        replace(
            options,
            runtimes=(model.runtime.name,),
            precisions=(model.runtime.precision,),
            stated=options.stated if model.assumed else NOTHING_STATED,
        ),
    )
    return opened
