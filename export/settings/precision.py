"""The number formats that a graph can be written in, as data."""

from dataclasses import dataclass
from typing import NamedTuple

import ml_dtypes
import numpy as np


class Format(NamedTuple):
    """A type that values are rounded to when they are quantized."""

    dtype: np.dtype
    largest: float  # magnitude it holds, used symmetrically


INT8 = Format(np.dtype(np.int8), 127)
# CPUs without VNNI add two products of a uint8 and an int8 in 16 bits: 255 * 64 * 2 is the most that fits
INT7 = Format(np.dtype(np.int8), 64)
UINT8 = Format(np.dtype(np.uint8), 255)
FP8 = Format(np.dtype(ml_dtypes.float8_e4m3fn), 448)


@dataclass(frozen=True)
class Precision:
    """What a graph computes in. Mean subtraction, fc8, the average and softmax are float32 in all of them, and so is LRN."""

    name: str  # as in --precision and in file names
    trunk: np.dtype  # of activations, weights and biases where nothing is quantized
    activations: Format | None = None  # of the inputs of quantized convolutions
    weights: Format | None = None
    # Whether Q stands right after each ReLU, ahead of the pool, and at fc8 too, so that every 8-bit convolution also ends in
    # 8 bits: only so do ONNX Runtime's CPU kernels fuse. TensorRT wants Q at the convolution itself.
    fused: bool = False
    opset: int = 20


FLOAT, HALF, BF16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)

PRECISIONS = {
    p.name: p
    for p in (
        Precision("fp32", FLOAT),
        Precision("fp16", HALF),
        Precision("bf16", BF16, opset=22),  # the first whose convolutions may be bfloat16
        Precision("int8", HALF, INT8, INT8),
        Precision("int8-cpu", FLOAT, UINT8, INT7, fused=True),
        Precision("fp8", HALF, FP8, FP8),
    )
}
