"""Finds out whether OpenVINO multiplies 8-bit weights rightly on this CPU.

CPUs without 8-bit dot products (VNNI) add two products of a uint8 and an int8 in 16 bits
(vpmaddubsw), which saturates. OpenVINO uses that instruction there, without a word. Weights up to
SAFE cannot saturate: those of int8-cpu.
"""

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.machine import cpu_instructions

SAFE = 64  # 2 * 255 * 64 fits into 16 bits
CHANNELS, SIDE = 16, 3


def refuse_saturation(ov: ModuleType, model: Any, where: str) -> None:
    """Refuse a model whose 8-bit products may saturate on this CPU.

    Args:
        ov: The package.
        model: An openvino.Model.
        where: The file, for messages.

    Raises:
        InputError: If they may.
    """
    if largest_weight(model) <= SAFE or not saturates(ov):
        return
    instructions = ", ".join(cpu_instructions()) or "unknown instructions"
    raise InputError(
        f"{where}: OpenVINO's kernels for this CPU ({instructions}) add two products of 8-bit "
        f"weights in 16 bits and saturate; use an int8-cpu file, whose weights end at {SAFE}, or a "
        "CPU with VNNI"
    )


def largest_weight(model: Any) -> int:
    """Largest magnitude of the 8-bit weights of a model; 0 without any.

    Args:
        model: An openvino.Model.
    """
    largest = 0
    for weight in integer_weights(model):
        values = weight.get_data()
        middle = 128 if values.dtype == np.uint8 else 0
        largest = max(largest, int(values.max()) - middle, middle - int(values.min()))
    return largest


def integer_weights(model: Any) -> list[Any]:
    """The constants of a model that have 8-bit weights.

    Args:
        model: An openvino.Model.
    """
    return [
        op
        for op in model.get_ordered_ops()
        if op.get_type_name() == "Constant"
        and op.get_element_type().get_type_name() in ("i8", "u8")
        and len(op.get_output_shape(0)) > 1
    ]


@cache
def saturates(ov: ModuleType) -> bool:
    """Whether a convolution of the largest 8-bit values is too small here.

    Args:
        ov: The package.
    """
    from openvino import opset13 as ops

    image = ops.parameter([1, CHANNELS, SIDE, SIDE], ov.Type.u8)
    low, high = np.float32(0), np.float32(255)
    values = ops.fake_quantize(ops.convert(image, "f32"), low, high, low, high, 256)
    weights = ops.constant(np.full((CHANNELS, CHANNELS, SIDE, SIDE), 127, np.int8))
    scales = ops.constant(np.ones((CHANNELS, 1, 1, 1), np.float32))
    scaled = ops.multiply(ops.convert(weights, "f32"), scales)
    sums = ops.convolution(values, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(ov.Model([ops.relu(sums)], [image]), "CPU", settings)
    (found,) = compiled(np.full((1, CHANNELS, SIDE, SIDE), 255, np.uint8)).values()
    exact = CHANNELS * SIDE * SIDE * 255 * 127  # float32 represents it
    return bool((found != exact).any())
