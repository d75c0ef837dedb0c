"""Reads the linear heads of LPIPS from the installed package lpips."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from export.settings.distance_choice import LPIPS_CHANNELS
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256

PACKAGE = "lpips"
FILE = Path("weights/v0.1/vgg.pth")  # in the package
INSTALL = 'install it: pip install "vgg-deploy[lpips]"'


class Heads(NamedTuple):
    """The linear heads.

    Attributes:
        weights: (C,) float32 of each layer, not negative.
        described: Where they are from, with their sha256.
    """

    weights: tuple[np.ndarray, ...]
    described: str


def read_heads() -> Heads:
    """Read the heads without running any code of the package.

    Raises:
        InputError: If the package is not installed, or its file is not the one that is expected.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"the linear heads of LPIPS are in the package {PACKAGE}", INSTALL)
    path = Path(found.submodule_search_locations[0]) / FILE
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything for a damaged file
        raise InputError(f"{path}: cannot be read ({error})"[:300], INSTALL) from None
    weights = tuple(
        _head(content, index, channels, path) for index, channels in enumerate(LPIPS_CHANNELS)
    )
    return Heads(weights, f"{PACKAGE} {version(PACKAGE)}, {FILE}, sha256 {sha256(path)}")


def _head(content: object, index: int, channels: int, path: Path) -> np.ndarray:
    """One head, (channels,) float32.

    Raises:
        InputError: If the file has none of this shape.
    """
    name = f"lin{index}.model.1.weight"
    tensor = content.get(name) if isinstance(content, dict) else None
    if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != (1, channels, 1, 1):
        raise InputError(f"{path}: has no {name} of {channels} channels", INSTALL)
    head: np.ndarray = tensor.detach().float().numpy().reshape(channels)
    if not np.isfinite(head).all() or (head < 0).any():
        raise InputError(f"{path}: {name} has values that are negative or not finite", INSTALL)
    return head
