"""Exported files that tests bench."""

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
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
