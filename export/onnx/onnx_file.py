"""Writes a model one tensor at a time, and reads it back without its weights.

onnx.save needs the weights twice in memory, in the message and serialised, and so do those who
load the file. Protobuf's wire format allows better. A message is its fields one after another, so
the weights are appended to the serialised graph straight from their arrays. And ONNX lets a tensor
refer to a range of another file, so a graph of a few KB can refer to the weights inside the file
that was written. ONNX Runtime maps them from there.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.onnx.graph import Graph
from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.onnx_wire import Field, fields, mapped

# Field numbers of onnx.proto, all length-delimited
MODEL_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
GRAPH_INITIALIZER = ModelProto().graph.DESCRIPTOR.fields_by_name["initializer"].number
TENSOR_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
MOST_BYTES = 2**31 - 1  # of a protobuf message
# Bytes. Smaller tensors stay in the graph: shape inference and ONNX Runtime look at some of them,
# such as the axes of the mean
SMALL = 65536
INT4 = np.dtype(ml_dtypes.int4)
PACKED_AT_ONCE = 2**22  # 4-bit values, an even number
CONVERTED_AT_ONCE = 2**22  # values
PAGE = 65536  # bytes; memory can be mapped from multiples of it on any system


class Span(NamedTuple):
    """A range of bytes in a file."""

    offset: int
    length: int


def write_onnx(path: Path, graph: Graph) -> None:
    """Write a graph as one ONNX file without a copy of its weights.

    Args:
        path: The file.
        graph: With its weights.

    Raises:
        ValueError: If the file would exceed protobuf's 2 GiB.
    """
    outer = ModelProto()
    outer.CopyFrom(graph.model)
    outer.ClearField("graph")
    inner = graph.model.graph.SerializeToString()
    heads = [_tensor_head(graph, name).SerializeToString() for name in graph.weights]
    sizes = [
        len(head) + _field_size(TENSOR_RAW_DATA, _stored_bytes(graph.type_of(name), array.size))
        for head, (name, array) in zip(heads, graph.weights.items(), strict=True)
    ]
    total = len(inner) + sum(_field_size(GRAPH_INITIALIZER, size) for size in sizes)
    if total > MOST_BYTES:
        raise ValueError(f"{path}: {total:,} bytes are more than one protobuf message can have")
    with open(path, "wb") as file:
        file.write(outer.SerializeToString())
        file.write(_field_start(MODEL_GRAPH, total) + inner)
        for head, size, (name, array) in zip(heads, sizes, graph.weights.items(), strict=True):
            dtype = graph.type_of(name)
            file.write(_field_start(GRAPH_INITIALIZER, size) + head)
            file.write(_field_start(TENSOR_RAW_DATA, _stored_bytes(dtype, array.size)))
            _write_array(file, array, dtype)


def write_with_data(path: Path, graph: Graph, data: Path, location: str) -> None:
    """Write a graph with its weights in a separate file.

    Args:
        path: The graph's file.
        graph: With its weights.
        data: Where to write the weights.
        location: Final name of the weights' file.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    with open(data, "wb") as file:
        for name, array in graph.weights.items():
            dtype = graph.type_of(name)
            if array.size * dtype.itemsize < SMALL:
                stored = array.astype(dtype, copy=False)
                model.graph.initializer.append(numpy_helper.from_array(stored, name))
                continue
            file.write(bytes(-file.tell() % PAGE))
            span = Span(file.tell(), _stored_bytes(dtype, array.size))
            model.graph.initializer.append(referring(_tensor_head(graph, name), location, span))
            _write_array(file, array, dtype)
    path.write_bytes(model.SerializeToString())


def read_referring(path: Path, data: Path | None = None) -> ModelProto:
    """The model of a file that was just written, with references to its weights.

    Args:
        path: The file.
        data: The separate file of its weights, if it has one.

    Raises:
        CheckFailed: If a tensor does not have the bytes that its shape takes.
    """
    with mapped(path) as view:
        outer, graphs = _without(view, 0, len(view), MODEL_GRAPH)
        (graph,) = graphs
        inner, initializers = _without(view, graph.value, graph.end, GRAPH_INITIALIZER)
        tensors = [_read_tensor(view, field, path, data) for field in initializers]
    model: ModelProto = ModelProto.FromString(outer)
    model.graph.ParseFromString(inner)
    model.graph.initializer.extend(tensors)
    return model


@contextmanager
def beside(path: Path, model: ModelProto, suffix: str) -> Iterator[Path]:
    """Write a model to a temporary file in the folder of another, where its references resolve.

    Args:
        path: The other file.
        model: To write.
        suffix: Of the temporary file.

    Yields:
        The temporary file, which is removed at the end of the block.
    """
    with NamedTemporaryFile(prefix=f"{path.name}.", suffix=suffix, dir=path.parent) as file:
        file.write(model.SerializeToString())
        file.flush()
        yield Path(file.name)


def referring(tensor: TensorProto, location: str, span: Span) -> TensorProto:
    """Make a tensor refer to its values in another file. Changes the tensor and returns it."""
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    entries = {"location": location, "offset": span.offset, "length": span.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def span_of(tensor: TensorProto) -> Span:
    """Where an external tensor's values are in its file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Span(int(entries["offset"]), int(entries["length"]))


def stored_values(tensor: TensorProto, folder: Path) -> np.ndarray:
    """A tensor's values.

    Those in another file of `folder` are mapped, not read; 4-bit values are read, one byte each.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    (location,) = (entry.value for entry in tensor.external_data if entry.key == "location")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    span, shape = span_of(tensor), tuple(tensor.dims)
    if dtype == INT4:
        return _unpacked(
            np.memmap(folder / location, np.uint8, "r", span.offset, span.length), shape
        )
    return np.memmap(folder / location, dtype, "r", span.offset, shape)


def _without(view: memoryview, start: int, end: int, number: int) -> tuple[bytes, list[Field]]:
    """Split a message into the bytes of its other fields and the fields of one number."""
    rest, found = b"", []
    for field in fields(view, start, end):
        if field.number == number:
            found.append(field)
        else:
            rest += view[field.start : field.end]
    return rest, found


def _read_tensor(view: memoryview, field: Field, path: Path, data: Path | None) -> TensorProto:
    """A tensor of a model, with a reference to its values if it is large."""
    head, raw = _without(view, field.value, field.end, TENSOR_RAW_DATA)
    tensor: TensorProto = TensorProto.FromString(head)
    if tensor.data_location == TensorProto.EXTERNAL:
        if data is None:
            raise CheckFailed(f"{tensor.name}: its values are in a file that was not written")
        span = span_of(tensor)
        tensor = referring(tensor, data.name, span)
    elif not raw:
        return tensor  # its values are in another field
    else:
        values = raw[-1]
        span = Span(values.value, values.end - values.value)
        if span.length < SMALL:
            tensor.raw_data = bytes(view[values.value : values.end])
        else:
            tensor = referring(tensor, path.name, span)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    expected = _stored_bytes(dtype, math.prod(tensor.dims))
    if span.length != expected:
        raise CheckFailed(
            f"{tensor.name}: {span.length:,} bytes are stored, "
            f"its shape {list(tensor.dims)} takes {expected:,}"
        )
    return tensor


def _tensor_head(graph: Graph, name: str) -> TensorProto:
    """A tensor without its values."""
    dtype = helper.np_dtype_to_tensor_dtype(graph.type_of(name))
    return TensorProto(name=name, dims=graph.weights[name].shape, data_type=dtype)


def _write_array(file: BinaryIO, array: np.ndarray, dtype: np.dtype) -> None:
    """Little-endian bytes in C order, as ONNX requires, converted a part at a time."""
    if dtype == INT4:
        _write_packed(file, array)
        return
    if array.dtype == dtype:
        ordered = np.ascontiguousarray(array, dtype.newbyteorder("<"))
        file.write(ordered.reshape(-1).view(np.uint8).data)
        return
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, CONVERTED_AT_ONCE):
        part = _converted(flat[start : start + CONVERTED_AT_ONCE], dtype)
        file.write(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).view(np.uint8).data)


def _converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values of another type, rounded to the nearest; to half precision PyTorch is faster."""
    if values.dtype == np.float32 and dtype == np.float16:
        rounded: np.ndarray = torch.from_numpy(values).half().numpy()
        return rounded
    return values.astype(dtype)


def _stored_bytes(dtype: np.dtype, count: int) -> int:
    """Bytes of so many values in a file."""
    return (count + 1) // 2 if dtype == INT4 else count * dtype.itemsize


def _write_packed(file: BinaryIO, array: np.ndarray) -> None:
    """Write two 4-bit values to a byte, the first in its lower half."""
    values = np.ascontiguousarray(array).reshape(-1).view(np.int8)  # a byte each
    for start in range(0, len(values), PACKED_AT_ONCE):
        part = values[start : start + PACKED_AT_ONCE].view(np.uint8) & 15
        part = np.append(part, np.zeros(len(part) % 2, np.uint8))
        file.write((part[::2] | part[1::2] << 4).data)


def _unpacked(stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The reverse of `_write_packed`, int4."""
    values = np.empty((len(stored), 2), np.int8)
    values[:, 0], values[:, 1] = (stored << 4).view(np.int8) >> 4, stored.view(np.int8) >> 4
    return values.reshape(-1)[: math.prod(shape)].reshape(shape).astype(INT4)


def _field_start(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(size)


def _field_size(number: int, size: int) -> int:
    """Bytes of a length-delimited field."""
    return len(_field_start(number, size)) + size


def _varint(value: int) -> bytes:
    """A number in groups of 7 bits, lowest first; all but the last group have the top bit set."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
