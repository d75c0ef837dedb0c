"""Reads the graph of an ONNX file without its weights: what is computed, on which shapes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from vgg_deploy.errors import InputError
from vgg_deploy.exported.onnx_wire import LENGTH_DELIMITED, data_files, fields, mapped

MODEL_GRAPH, GRAPH_TENSOR, TENSOR_BYTES = 7, 5, 9  # numbers of fields in onnx.proto
MOST_BYTES = 2**16  # of a tensor whose values are read: scales and biases are, weights are not


class Span(NamedTuple):
    """Where the values of a tensor lie in the file, bytes."""

    start: int
    end: int


class Range(NamedTuple):
    """The smallest and the largest of some integers."""

    low: int
    high: int


class Outline(NamedTuple):
    """A graph whose larger tensors have a name, a type and a shape, and no values."""

    path: Path
    graph: onnx.GraphProto
    spans: dict[str, Span]  # of the values that were not read, by the tensor's name

    def tensors(self) -> dict[str, onnx.TensorProto]:
        """The stored tensors by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}


def read_outline(path: Path) -> Outline:
    """Read a graph without its weights.

    Args:
        path: An ONNX file.

    Raises:
        InputError: If it is damaged, or refers to weights that are not beside it.
    """
    data_files(path)  # refuses such weights
    graph, spans = onnx.GraphProto(), {}
    with mapped(path) as view:
        try:
            for field in fields(view, 0, len(view)):
                if field.number != MODEL_GRAPH or field.wire_type != LENGTH_DELIMITED:
                    continue
                for part in fields(view, field.value, field.end):
                    if part.number != GRAPH_TENSOR or part.wire_type != LENGTH_DELIMITED:
                        graph.MergeFromString(bytes(view[part.start : part.end]))
                        continue
                    tensor, span = _tensor(view, part.value, part.end)
                    graph.initializer.append(tensor)
                    if span:
                        spans[tensor.name] = span
        except (ValueError, DecodeError) as error:
            raise InputError(
                f"{path}: not a model that ONNX Runtime can load ({error}); export it again"
            ) from None
    return Outline(path, graph, spans)


def _tensor(view: memoryview, start: int, end: int) -> tuple[onnx.TensorProto, Span | None]:
    """A stored tensor, and where its values are if they are many."""
    tensor, span = onnx.TensorProto(), None
    for field in fields(view, start, end):
        if field.number == TENSOR_BYTES and field.end - field.value > MOST_BYTES:
            span = Span(field.value, field.end)
        else:
            tensor.MergeFromString(bytes(view[field.start : field.end]))
    return tensor, span


def value_range(outline: Outline, name: str) -> Range:
    """The smallest and the largest value of a tensor of 8-bit integers.

    Args:
        outline: Of the file.
        name: Of the tensor.

    Raises:
        InputError: If the file has changed or cannot be read.
    """
    span, tensor = outline.spans.get(name), outline.tensors()[name]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if span:
        with mapped(outline.path) as view:
            values = np.frombuffer(view[span.start : span.end], dtype)
            found = Range(int(values.min()), int(values.max()))
            del values  # the file is unmapped after its last use
        return found
    if external_data_helper.uses_external_data(tensor):
        external_data_helper.load_external_data_for_tensor(tensor, str(outline.path.parent))
    stored = numpy_helper.to_array(tensor)
    return Range(int(stored.min()), int(stored.max()))
