"""The smallest models of each kind that the fuzzer damages."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from tests.support.foreign import torchvision_net
from tests.support.nets import CLASSES, photo_of, thin_net
from vgg_deploy.exported.metadata import Artifact

PIXELS = np.arange(3 * 40 * 33, dtype=np.uint64).reshape(1, 3, 40, 33).astype(np.uint8)


def photos(count: int) -> list[Image.Image]:
    """Some images."""
    rng = np.random.default_rng(5)
    return [photo_of(CLASSES[i % len(CLASSES)], rng) for i in range(count)]


def thin_state() -> dict[str, torch.Tensor]:
    """The state dict of a thin net in torchvision's layout."""
    state = torchvision_net("A", batch_norm=False).state_dict()
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def small_artifact() -> Artifact:
    """What an export of a thin net states of itself."""
    return Artifact(thin_net("A", width=1 / 64).spec, "uint8", "fp32", "A.pt", "0" * 64)


def small_onnx(folder: Path) -> Path:
    """Write A.onnx."""
    path = folder / "A.onnx"
    net = thin_net("A", width=1 / 64)
    write_onnx(path, onnx_graph(net, small_artifact(), PRECISIONS["fp32"]))
    return path
