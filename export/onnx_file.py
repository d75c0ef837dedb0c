"""Writing a model with its weights inline, one tensor at a time.

onnx.save needs the weights twice in memory (in the message and serialised). Protobuf's wire format allows better: a
message is its fields one after another, so the weights are appended to the serialised graph straight from their arrays.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto, helper

from export.graph import Graph

# Field numbers of onnx.proto, all length-delimited
MODEL_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
GRAPH_INITIALIZER = ModelProto().graph.DESCRIPTOR.fields_by_name["initializer"].number
TENSOR_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
MOST_BYTES = 2**31 - 1  # of a protobuf message


def write_onnx(path: Path, graph: Graph) -> None:
    """Write `graph` as one ONNX file without a copy of its weights.

    Raises: ValueError above protobuf's 2 GiB.
    """
    outer = ModelProto()
    outer.CopyFrom(graph.model)
    outer.ClearField("graph")
    inner = graph.model.graph.SerializeToString()
    tensors = [_tensor_head(name, array) for name, array in graph.weights.items()]
    sizes = [_field_size(TENSOR_RAW_DATA, array.nbytes) + len(head) for head, array in zip(tensors, graph.weights.values(), strict=True)]
    total = len(inner) + sum(_field_size(GRAPH_INITIALIZER, size) for size in sizes)
    if total > MOST_BYTES:
        raise ValueError(f"{path}: {total:,} bytes are more than one protobuf message holds")
    with open(path, "wb") as file:
        file.write(outer.SerializeToString())
        file.write(_field_start(MODEL_GRAPH, total) + inner)
        for head, size, array in zip(tensors, sizes, graph.weights.values(), strict=True):
            file.write(_field_start(GRAPH_INITIALIZER, size) + head + _field_start(TENSOR_RAW_DATA, array.nbytes))
            _write_array(file, array)


def _tensor_head(name: str, array: np.ndarray) -> bytes:
    """A TensorProto but for its raw_data."""
    return TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype)).SerializeToString()


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    """ONNX wants little-endian bytes in C order."""
    file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)


def _field_start(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(size)


def _field_size(number: int, size: int) -> int:
    return len(_field_start(number, size)) + size


def _varint(value: int) -> bytes:
    groups: Iterable[int] = range(max(1, math.ceil(value.bit_length() / 7)))
    parts = [value >> 7 * g & 0x7F for g in groups]
    return bytes([p | 0x80 for p in parts[:-1]] + parts[-1:])
