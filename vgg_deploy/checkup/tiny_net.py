"""A net of one convolution, in every form that a runtime reads, and its result in plain NumPy."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 8, 4
TOLERANCE = 1e-4  # of a posterior
BFLOAT16_TOLERANCE = 4e-3  # the same where values are rounded to 8 bits
NCNN_PARAM = f"""7767517
5 5
Input image 0 1 image
Convolution conv 1 1 image a 0={CLASSES} 1=3 4=1 5=1 6={CLASSES * 27}
ReLU relu 1 1 a b
Pooling mean 1 1 b c 0=1 4=1
Softmax softmax 1 1 c posterior 0=0
"""


def image() -> np.ndarray:
    """(1, 3, SIDE, SIDE) float32."""
    return _random(1, (1, 3, SIDE, SIDE))


def weights() -> tuple[np.ndarray, np.ndarray]:
    """Of the convolution: (CLASSES, 3, 3, 3) and (CLASSES,) float32."""
    return _random(2, (CLASSES, 3, 3, 3)), _random(3, (CLASSES,))


def expected() -> np.ndarray:
    """The posterior of `image`, (CLASSES,) float64: convolution, ReLU, mean, softmax."""
    weight, bias = weights()
    padded = np.pad(image()[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    maps = np.einsum("cyxij,ocij->oyx", windows, weight) + bias[:, None, None]
    powers = np.exp(np.maximum(maps, 0).mean((1, 2)))
    posterior: np.ndarray = powers / powers.sum()
    return posterior


def as_onnx() -> bytes:
    """The net as an ONNX file: image -> posterior."""
    from onnx import TensorProto, helper, numpy_helper

    weight, bias = weights()
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Softmax", ["f"], ["posterior"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("posterior", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    opsets = [helper.make_opsetid("", 20)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return content


def as_torch(device: str) -> Any:
    """The net as a torch.nn.Module."""
    import torch
    from torch import nn

    conv = nn.Conv2d(3, CLASSES, 3, padding=1)
    weight, bias = map(torch.from_numpy, weights())
    conv.load_state_dict({"weight": weight, "bias": bias})
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    return net.eval().to(device)


def write_ncnn(folder: Path) -> tuple[Path, Path]:
    """Write the net for ncnn: paths of its layers and of its weights."""
    weight, bias = weights()
    param, content = folder / "tiny.param", folder / "tiny.bin"
    param.write_text(NCNN_PARAM)
    uncompressed = struct.pack("<I", 0)  # stands before the weight
    content.write_bytes(uncompressed + weight.tobytes() + bias.tobytes())
    return param, content


def _random(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
