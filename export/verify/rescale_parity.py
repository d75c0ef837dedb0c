"""Compares the pixels that a file makes of whole images with Pillow's."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.interface import PIXELS

ROUNDING = 1  # grey levels: a weight halfway between two may go either way on another processor
RARE = 1e-4  # share of values that may be rounded so


@dataclass(frozen=True)
class RescaleParity:
    """Pixels of a file beside Pillow's.

    Attributes:
        images: Number of images.
        values: Number of values, three for each pixel.
        differing: Number of values that differ.
        largest_difference: Of any value, grey levels.
    """

    images: int
    values: int
    differing: int
    largest_difference: int


def compare_rescaled(
    model: onnx.ModelProto, images: list[np.ndarray], expected: list[np.ndarray]
) -> RescaleParity:
    """Run the rescale of a file alone, in ONNX Runtime.

    Args:
        model: The file; its weights may lie elsewhere, those of the rescale are inside.
        images: Batches (N, 3, H, W) uint8 RGB, as the file is given them.
        expected: The same as Pillow rescales and crops them.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        rescale_alone(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = differing = largest = 0
    for batch, wanted in zip(images, expected, strict=True):
        whole = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        (found,) = session.run([PIXELS], {"image": whole})
        if found.shape != wanted.shape:
            raise CheckFailed(
                f"images of {batch.shape[2]}x{batch.shape[3]} are rescaled to {found.shape[2:]}, "
                f"Pillow's have {wanted.shape[2:]}"
            )
        apart = np.abs(found.astype(np.int16) - wanted)
        values += apart.size
        differing += int((apart > 0).sum())
        largest = max(largest, int(apart.max()))
    return RescaleParity(sum(map(len, images)), values, differing, largest)


def judge_rescaled(parity: RescaleParity, name: str) -> None:
    """Check the pixels of a file.

    Args:
        parity: Of `compare_rescaled`.
        name: Of the file.

    Raises:
        CheckFailed: If they differ by more than rare roundings.
    """
    if parity.largest_difference <= ROUNDING and parity.differing <= RARE * parity.values:
        return
    raise CheckFailed(
        f"{name}: {parity.differing:,} of {parity.values:,} rescaled values differ from Pillow's, "
        f"by up to {parity.largest_difference} grey levels; rescale outside, or report this"
    )


def rescale_alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes of a file up to its rescaled pixels, as a model of its own."""
    nodes = list(model.graph.node)
    last = next(i for i, node in enumerate(nodes) if PIXELS in node.output)
    own = PIXELS.partition(".")[0] + "."
    stored = [tensor for tensor in model.graph.initializer if tensor.name.startswith(own)]
    output = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, None)
    graph = helper.make_graph(nodes[: last + 1], "rescale", model.graph.input, [output], stored)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
