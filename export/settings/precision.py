"""The number formats that a graph can be written in, as data."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import ml_dtypes
import numpy as np

from vgg_deploy.errors import InputError


class Format(NamedTuple):
    """A type that values are rounded to when they are quantized."""

    dtype: np.dtype
    largest: float  # largest magnitude in use, positive and negative


INT8 = Format(np.dtype(np.int8), 127)
# CPUs without VNNI add two products of a uint8 and an int8 in 16 bits: at most 255 * 64 * 2 fits
INT7 = Format(np.dtype(np.int8), 64)
UINT8 = Format(np.dtype(np.uint8), 255)
FP8 = Format(np.dtype(ml_dtypes.float8_e4m3fn), 448)
FOUR_BIT = ("fc6", "fc7")  # layers whose weights can have 4 bits: 86 % of net D's weights


@dataclass(frozen=True)
class Precision:
    """What a graph computes in.

    The subtraction of the mean, LRN, fc8, the average and softmax are float32 in every precision.

    Attributes:
        name: As in the names of files.
        trunk: Type of activations, weights and biases where nothing is quantized.
        activations: Format of the inputs of quantized convolutions; None: nothing is quantized.
        weights: Format of the weights of quantized convolutions; None together with `activations`.
        fused: Whether QuantizeLinear stands right after each ReLU, ahead of the pool, and at fc8
            too, so that every 8-bit convolution also ends in 8 bits. ONNX Runtime's CPU kernels
            fuse only this form. TensorRT needs QuantizeLinear at the convolution itself.
        opset: ONNX operator set.
        block: Number of inputs of FOUR_BIT layers whose 4-bit weights share a scale; None: these
            layers have the weights of other quantized convolutions.
        least_opset: The first one in which the graph can be written.
    """

    name: str
    trunk: np.dtype
    activations: Format | None = None
    weights: Format | None = None
    fused: bool = False
    opset: int = 20
    block: int | None = None
    least_opset: int = 17

    def at(self, opset: int | None) -> "Precision":
        """The same in another operator set; None: in its own.

        Raises:
            InputError: For a set that lacks its operators.
        """
        if opset is None:
            return self
        if opset < self.least_opset:
            raise InputError(
                f"opset {opset} has no {self.name}; use {self.least_opset} or a later one"
            )
        return replace(self, opset=opset)

    @property
    def is_quantized(self) -> bool:
        """Whether convolutions are quantized."""
        return self.activations is not None

    @property
    def activation_format(self) -> Format:
        """Format of the inputs of quantized convolutions.

        Raises:
            ValueError: If nothing is quantized.
        """
        if self.activations is None:
            raise ValueError(f"{self.name} quantizes nothing")
        return self.activations

    @property
    def weight_format(self) -> Format:
        """Format of the weights of quantized convolutions.

        Raises:
            ValueError: If nothing is quantized.
        """
        if self.weights is None:
            raise ValueError(f"{self.name} quantizes nothing")
        return self.weights


FLOAT, HALF, BF16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)

PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", FLOAT),
        Precision("fp16", HALF),
        # the first opset with bfloat16 convolutions
        Precision("bf16", BF16, opset=22, least_opset=22),
        # the first opset with scales of half precision, and with fp8
        Precision("int8", HALF, INT8, INT8, least_opset=19),
        Precision("int8-cpu", FLOAT, UINT8, INT7, fused=True),
        Precision("fp8", HALF, FP8, FP8, least_opset=19),
        # opset 21 has 4-bit values with a scale for each block
        Precision("int4", HALF, INT8, INT8, opset=21, least_opset=21, block=64),
        Precision("int4-cpu", FLOAT, UINT8, INT7, fused=True, opset=21, least_opset=21, block=64),
    )
}
