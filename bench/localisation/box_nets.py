"""Opens the nets that state boxes: checkpoints of localisers, and files exported from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.outputs import BOXES
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes import Runtime, open_runtime


class BoxNet(NamedTuple):
    """An opened localiser.

    Attributes:
        path: The file.
        name: In the tables.
        runtime: Runs it.
    """

    path: Path
    name: str
    runtime: Runtime

    @property
    def spec(self) -> NetSpec:
        """Of the net."""
        return self.runtime.spec

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) uint8 RGB -> (N, spec.outputs, h, w) float32.

        Raises:
            CheckFailed: If a number is not finite.
        """
        numbers = self.runtime.run(images, (BOXES,))[BOXES]
        if not np.isfinite(numbers).all():
            raise CheckFailed(f"{self.path}: states boxes that are not finite; train it again")
        return numbers


def open_box_nets(
    paths: Sequence[Path | str], taken: Sequence[str], device: str, threads: int
) -> list[BoxNet]:
    """Open localisers; those of one file name are named with their folders.

    Args:
        paths: Checkpoints, or files exported from them.
        taken: Names of the classifiers.
        device: "cpu" or "cuda".
        threads: On the CPU.

    Raises:
        InputError: For a file that is no localiser, or that is named twice.
    """
    found = [locate(path) for path in paths]
    if len({one.path for one in found}) < len(found):
        raise InputError("a localiser is named twice; name each once", "", "boxes_by")
    own = [*taken, *(one.name for one in found)]
    return [
        BoxNet(
            one.path,
            one.name if own.count(one.name) == 1 else one.given,
            _open(one, device, threads),
        )
        for one in found
    ]


def _open(source: Located, device: str, threads: int) -> Runtime:
    """Open a localiser in the usual runtime of its file."""
    runtime = open_runtime(source, device, threads)
    if BOXES not in runtime.outputs:
        raise InputError(
            f"{source.path}: is a classifier, which scores classes and states no boxes",
            "name a localiser here",
            "localiser",
        )
    return runtime
