"""A runtime that opens its file when it is called first: stored posteriors need no session.

What a file states about itself is read at once, and its digest is compared with its manifest. Only
the library's own work waits.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vgg_deploy.exported.distance_metadata import onnx_metadata
from vgg_deploy.exported.metadata import KEY, Artifact, check_manifest
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.onnx_options import session_settings
from vgg_deploy.runtimes.contract import Outputs, Runtime, Scores
from vgg_deploy.runtimes.packages import runtime_package
from vgg_deploy.unchanged_files import refuse_changed, states_of


class DeferredRuntime:
    """An exported file that is not open yet; the attributes are those of `Runtime`.

    It runs the file that it described: a file that has changed since then is refused.
    """

    def __init__(
        self,
        artifact: Artifact,
        name: str,
        threads: int,
        settings: Mapping[str, str],
        files: Sequence[Path],
        open_file: Callable[[], Runtime],
    ):
        """Describe a file; see `deferred_onnx`.

        Args:
            artifact: Its own description.
            name: Of the runtime.
            threads: On the CPU.
            settings: As those of the opened runtime.
            files: The file, and those with its weights.
            open_file: Opens it.
        """
        self.artifact, self.name, self.threads, self.settings = artifact, name, threads, settings
        self.device, self.where = "cpu", str(files[0])
        self.spec, self.precision, self.outputs = (
            artifact.spec,
            artifact.precision,
            artifact.outputs,
        )
        self._described = states_of(*files)
        self._open_file = open_file
        self._opened: Runtime | None = None

    def open(self) -> Runtime:
        """Open the file, unless it is open.

        Returns:
            The runtime that everything is passed to.

        Raises:
            InputError: As `open_runtime`, or if the file has changed since it was described.
        """
        if self._opened is None:
            refuse_changed(self._described)
            opened = self._open_file()
            refuse_changed(self._described)
            opened.spec = self.spec  # its classes may have been named meanwhile
            self._opened = opened
        return self._opened

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return self.open()(images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`."""
        return self.open().run(images, outputs)


def deferred_onnx(
    path: Path, threads: int, open_file: Callable[[], Runtime]
) -> DeferredRuntime | None:
    """Describe an ONNX file for ONNX Runtime on the CPU.

    Whether its graph is what it states, only its opening shows.

    Args:
        path: Written by vgg-export.
        threads: On the CPU.
        open_file: Opens it.

    Returns:
        None for a file without a description of ours.

    Raises:
        InputError: If it, its weights or its manifest are damaged, or the package is missing.
    """
    runtime = "onnxruntime"
    runtime_package(runtime)
    files = [path, *data_files(path)]
    check_manifest(path)
    metadata = onnx_metadata(path)
    if KEY not in metadata:
        return None
    artifact = Artifact.from_json(metadata[KEY], str(path))
    settings = session_settings(runtime, "cpu")
    return DeferredRuntime(artifact, runtime, threads, settings, files, open_file)


def opened(runtime: Runtime) -> Runtime:
    """The runtime itself, or the one that a deferred runtime opens.

    Args:
        runtime: Any.

    Raises:
        InputError: As `DeferredRuntime.open`.
    """
    return runtime.open() if isinstance(runtime, DeferredRuntime) else runtime
