"""Writes exported files without the checks of the export."""

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.outputs import SCORES


def written_onnx(path, net, source_sha256="0" * 64, fault=None, outputs=SCORES):
    """An ONNX file of a net that gives scores or layers, with a fault or without."""
    artifact = Artifact(net.spec, "uint8", "fp32", "A.pt", source_sha256, outputs)
    graph = onnx_graph(net, artifact, PRECISIONS["fp32"])
    if fault:
        fault(graph)
    write_onnx(path, graph)
    return path
