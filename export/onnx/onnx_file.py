"""Writing a model one tensor at a time, and reading it back without its weights.

onnx.save needs the weights twice in memory (in the message and serialised), and so do those who load the file. Protobuf's wire
format allows better: a message is its fields one after another, so the weights are appended to the serialised graph straight
from their arrays; and ONNX lets a tensor be a place in another file, so that a graph of a few KB can point at the weights
inside the file that was written, from which ONNX Runtime maps them.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.onnx.graph import Graph
from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.onnx_wire import fields, mapped

# Field numbers of onnx.proto, all length-delimited
MODEL_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
GRAPH_INITIALIZER = ModelProto().graph.DESCRIPTOR.fields_by_name["initializer"].number
TENSOR_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
MOST_BYTES = 2**31 - 1  # of a protobuf message
SMALL = 65536  # bytes; what is smaller stays in the graph: shape inference and ONNX Runtime look at some of it, the axes of the mean among them
PAGE = 65536  # bytes; where memory can be mapped from on any system


def write_onnx(path: Path, graph: Graph) -> None:
    """Write `graph` as one ONNX file without a copy of its weights.

    Raises: ValueError above protobuf's 2 GiB.
    """
    outer = ModelProto()
    outer.CopyFrom(graph.model)
    outer.ClearField("graph")
    inner = graph.model.graph.SerializeToString()
    tensors = [_tensor_head(name, array) for name, array in graph.weights.items()]
    sizes = [
        _field_size(TENSOR_RAW_DATA, array.nbytes) + len(head)
        for head, array in zip(tensors, graph.weights.values(), strict=True)
    ]
    total = len(inner) + sum(_field_size(GRAPH_INITIALIZER, size) for size in sizes)
    if total > MOST_BYTES:
        raise ValueError(f"{path}: {total:,} bytes are more than one protobuf message holds")
    with open(path, "wb") as file:
        file.write(outer.SerializeToString())
        file.write(_field_start(MODEL_GRAPH, total) + inner)
        for head, size, array in zip(tensors, sizes, graph.weights.values(), strict=True):
            file.write(
                _field_start(GRAPH_INITIALIZER, size)
                + head
                + _field_start(TENSOR_RAW_DATA, array.nbytes)
            )
            _write_array(file, array)


def write_with_data(path: Path, graph: Graph, data: Path, location: str) -> None:
    """Write `graph` with its weights in a file of their own. Args: data, where to write that; location, its final name."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    with open(data, "wb") as file:
        for name, array in graph.weights.items():
            if array.nbytes < SMALL:
                model.graph.initializer.append(numpy_helper.from_array(array, name))
                continue
            file.write(bytes(-file.tell() % PAGE))
            head = TensorProto(
                name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype)
            )
            model.graph.initializer.append(referring(head, location, file.tell(), array.nbytes))
            _write_array(file, array)
    path.write_bytes(model.SerializeToString())


def read_referring(path: Path, data: Path | None = None) -> ModelProto:
    """The model of a file that was just written, with its weights as places in that file, or in its `data` beside it.

    Raises: CheckFailed if a tensor has not the bytes that its shape takes.
    """
    with mapped(path) as view:
        outer, graphs = b"", []
        for field in fields(view, 0, len(view)):
            if field.number == MODEL_GRAPH:
                graphs.append(field)
            else:
                outer += view[field.start : field.end]
        (graph,) = graphs
        model, inner, tensors = ModelProto.FromString(outer), b"", []
        for field in fields(view, graph.value, graph.end):
            if field.number == GRAPH_INITIALIZER:
                tensors.append(_read_tensor(view, field.value, field.end, path, data))
            else:
                inner += view[field.start : field.end]
    model.graph.ParseFromString(inner)
    model.graph.initializer.extend(tensors)
    return model


@contextmanager
def beside(path: Path, model: ModelProto, suffix: str) -> Iterator[Path]:
    """A model in a file of its own in the folder of `path`, where the names that it refers to are found, for as long as the block lasts."""
    with NamedTemporaryFile(prefix=f"{path.name}.", suffix=suffix, dir=path.parent) as file:
        file.write(model.SerializeToString())
        file.flush()
        yield Path(file.name)


def referring(tensor: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    """The same tensor with its values in another file."""
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def place(tensor: TensorProto) -> tuple[int, int]:
    """(offset, length) of an external tensor in its file."""
    held = {entry.key: entry.value for entry in tensor.external_data}
    return int(held["offset"]), int(held["length"])


def stored_values(tensor: TensorProto, folder: Path) -> np.ndarray:
    """A tensor's values; those in another file of `folder` are mapped, not read."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    (location,) = (entry.value for entry in tensor.external_data if entry.key == "location")
    offset, _ = place(tensor)
    return np.memmap(
        folder / location,
        helper.tensor_dtype_to_np_dtype(tensor.data_type),
        "r",
        offset,
        tuple(tensor.dims),
    )


def _read_tensor(
    view: memoryview, start: int, end: int, path: Path, data: Path | None
) -> TensorProto:
    head, raw = b"", []
    for field in fields(view, start, end):
        if field.number == TENSOR_RAW_DATA:
            raw.append(field)
        else:
            head += view[field.start : field.end]
    tensor = TensorProto.FromString(head)
    if tensor.data_location == TensorProto.EXTERNAL:
        offset, length = place(tensor)
        tensor = referring(tensor, data.name, offset, length)
    elif not raw:
        return tensor  # its values are in another field
    else:
        length = raw[-1].end - raw[-1].value
        if length < SMALL:
            tensor.raw_data = bytes(view[raw[-1].value : raw[-1].end])
        else:
            tensor = referring(tensor, path.name, raw[-1].value, length)
    wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if length != wanted:
        raise CheckFailed(
            f"{tensor.name}: {length:,} bytes are stored, its shape {list(tensor.dims)} takes {wanted:,}"
        )
    return tensor


def _tensor_head(name: str, array: np.ndarray) -> bytes:
    """A TensorProto but for its raw_data."""
    return TensorProto(
        name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype)
    ).SerializeToString()


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    """ONNX wants little-endian bytes in C order."""
    file.write(
        np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
    )


def _field_start(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(size)


def _field_size(number: int, size: int) -> int:
    return len(_field_start(number, size)) + size


def _varint(value: int) -> bytes:
    groups: Iterable[int] = range(max(1, math.ceil(value.bit_length() / 7)))
    parts = [value >> 7 * g & 0x7F for g in groups]
    return bytes([p | 0x80 for p in parts[:-1]] + parts[-1:])
