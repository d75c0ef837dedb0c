"""Exported files that tests bench."""

import numpy as np
import pytest

from export.onnx.file import write_onnx
from export.onnx.graph import onnx_graph
from export.precision import PRECISIONS
from tests.support.nets import CLASSES, picture, save_net, thin_net
from vgg_deploy.exported.metadata import Artifact


def written_onnx(path, net, source_sha256="0" * 64, fault=None):
    """An ONNX file of a net, with a fault or without, written past the checks of the export."""
    graph = onnx_graph(
        net, Artifact(net.spec, "uint8", "fp32", "A.pt", source_sha256), PRECISIONS["fp32"]
    )
    if fault:
        fault(graph)
    write_onnx(path, graph)
    return path


@pytest.fixture
def net(tmp_path):
    return save_net(thin_net("A"), tmp_path / "A.pt")


@pytest.fixture
def many(tmp_path):
    """400 pictures, and a net slow enough to be cut off."""
    rng = np.random.default_rng(0)
    for i in range(400):
        path = tmp_path / "many" / "val" / CLASSES[i % 4] / f"{i:03d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(CLASSES[i % 4], rng).save(path)
    return save_net(thin_net("D", width=1 / 4), tmp_path / "D.pt"), tmp_path / "many"
