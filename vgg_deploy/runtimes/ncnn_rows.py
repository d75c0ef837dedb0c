"""Computes fc6 from rows of its kernel: 8 products for two rows of the score map instead of 14.

fc6 is a convolution of side 7. Along the height it is Winograd's F(2, 7) (Lavin and Gray, arXiv
1509.09308): two rows of outputs depend on 8 rows of inputs, and 8 sums of these, each convolved
along the width with a sum of the kernel's rows, give both. The rows of all images of a batch stand
below each other, so the weights are read once for all of them.
"""

from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

import numpy as np
import torch

from vgg_deploy.exported.ncnn_files import NcnnLayer, StoredArray, input_layer

SIDE = 7  # of fc6's kernel
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # where polynomials are multiplied; and infinity
PRODUCTS = len(POINTS) + 1
UNITY = 1  # the product that enters both rows as it is; it carries the bias
AT_ONCE = 64  # outputs of fc6 whose kernels are read and summed at once


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What sums inputs (8, 8), kernels (8, 7) and products (2, 8), float64."""
    inputs, kernels = np.zeros((PRODUCTS, PRODUCTS)), np.zeros((PRODUCTS, SIDE))
    products = np.zeros((2, PRODUCTS))
    for i, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        inputs[i, :SIDE] = np.poly(others)[::-1]
        kernels[i] = [point**power / np.prod(point - np.array(others)) for power in range(SIDE)]
        products[:, i] = 1, point
    inputs[-1] = np.poly(POINTS)[::-1]
    kernels[-1, -1] = products[1, -1] = 1
    return inputs, kernels, products


OF_INPUTS, OF_KERNELS, OF_PRODUCTS = _matrices()


class KernelRows(NamedTuple):
    """The weights of one product, which no file has: a sum of the rows of fc6's kernels.

    Attributes:
        stored: fc6's weights in the .bin, (outputs, inputs, 7, 7).
        product: Its number.
    """

    stored: StoredArray
    product: int

    def fill(self, file: BufferedReader, offset: int, place: np.ndarray) -> bool:
        """Compute them.

        Args:
            file: The .bin.
            offset: Where fc6's weights start in it, bytes.
            place: (outputs * inputs * 7) float32, for the result: (outputs, inputs, 1, 7).

        Returns:
            Whether the file had all that it takes.
        """
        outputs, inputs, _, _ = self.stored.shape
        sums = np.kron(OF_KERNELS[self.product][:, None], np.eye(SIDE)).astype(np.float32)
        rows = place.reshape(outputs, inputs, SIDE)
        kernels = np.empty((min(AT_ONCE, outputs), inputs, SIDE * SIDE), np.float32)
        file.seek(offset)
        for start in range(0, outputs, AT_ONCE):
            some = kernels[: outputs - start]
            if file.readinto(some.data.cast("B")) != some.nbytes:
                return False
            target = torch.from_numpy(rows[start : start + AT_ONCE].reshape(-1, SIDE))
            given = torch.from_numpy(some.reshape(-1, SIDE * SIDE))
            torch.matmul(given, torch.from_numpy(sums), out=target)
        return True


def row_layers(fc6: NcnnLayer) -> list[NcnnLayer]:
    """The layers that compute fc6 from sums of rows.

    Their inputs `row_value(0)` ... are sums of rows, (inputs, rows, w). They give fc6's own value,
    (outputs, 2 * rows, w - 6): first the even rows of all pairs, then the odd ones. The weights of
    the products are not among their arrays, see `kernel_rows`.

    Args:
        fc6: As the net's description has it.
    """
    weight, bias = fc6.arrays
    outputs, inputs, _, _ = weight.shape
    layers = [input_layer(row_value(i)) for i in range(PRODUCTS)]
    sums: tuple[list[str], list[str]] = ([], [])
    for i in range(PRODUCTS):
        has_bias = i == UNITY
        parameters = {0: outputs, 1: SIDE, 11: 1, 2: 1, 3: 1, 4: 0, 5: int(has_bias)}
        parameters[6] = outputs * inputs * SIDE
        arrays = (bias,) if has_bias else ()
        name, value = product_name(i), f"{product_name(i)}.out"
        layers.append(NcnnLayer("Convolution", name, (row_value(i),), (value,), parameters, arrays))
        enters = [row for row in range(2) if OF_PRODUCTS[row, i]]
        values = [value] if len(enters) == 1 else [f"{value}{row}" for row in enters]
        if len(enters) > 1:
            layers.append(NcnnLayer("Split", f"{name}.split", (value,), tuple(values), {}))
        for row, own in zip(enters, values, strict=True):
            sums[row].append(own)
    for row, name in enumerate(("fc6.even", "fc6.odd")):
        factors = tuple(float(factor) for factor in OF_PRODUCTS[row] if factor)
        layers.append(
            NcnnLayer("Eltwise", name, tuple(sums[row]), (f"{name}.out",), {0: 1, 1: factors})
        )
    relu_follows = 9 in fc6.parameters
    joined = ("fc6.joined",) if relu_follows else fc6.gives
    layers.append(NcnnLayer("Concat", "fc6.rows", ("fc6.even.out", "fc6.odd.out"), joined, {0: 1}))
    if relu_follows:
        layers.append(NcnnLayer("ReLU", "fc6.relu", joined, fc6.gives, {}))
    return layers


def kernel_rows(fc6: NcnnLayer) -> dict[str, KernelRows]:
    """The weights of the products, by the names of their layers."""
    return {product_name(i): KernelRows(fc6.arrays[0], i) for i in range(PRODUCTS)}


def product_name(product: int) -> str:
    """The name of the layer of a product."""
    return f"fc6.product{product}"


def row_value(product: int) -> str:
    """The name of the input of a product."""
    return f"rows{product}"


def sums_of_rows(values: np.ndarray) -> np.ndarray:
    """Sum rows of what fc6 takes.

    Args:
        values: (C, h, w) float32.

    Returns:
        (8, C, rows, w) float32; rows is half the height of the score map, rounded up.
    """
    channels, height, width = values.shape
    rows = (height - SIDE) // 2 + 1
    if height < 2 * rows + SIDE - 1:  # a last row of the score map without its pair
        values = np.concatenate([values, np.zeros((channels, 1, width), np.float32)], 1)
    given = [values[:, i : i + 2 * rows - 1 : 2] for i in range(PRODUCTS)]
    found = np.zeros((PRODUCTS, channels, rows, width), np.float32)
    for factors, total in zip(OF_INPUTS.astype(np.float32), found, strict=True):
        for factor, value in zip(factors, given, strict=True):
            if factor:
                total += factor * value
    return found


def no_odd_rows(sums: np.ndarray, outputs: int) -> dict[str, np.ndarray]:
    """What to give for the product that only odd rows need, where a score map has one row.

    ncnn does not compute a value that it is given, so this product's weights are not read.

    Args:
        sums: As `sums_of_rows` gives them.
        outputs: Of fc6.
    """
    _, _, rows, width = sums.shape
    return {f"{product_name(PRODUCTS - 1)}.out": np.zeros((outputs, rows, width - SIDE + 1), "f4")}


def chunks_of_rows(sums: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cut sums of rows (8, C, rows, w) so that rows times w is about `most` at once."""
    rows = max(1, most // sums.shape[-1])
    for start in range(0, sums.shape[2], rows):
        yield sums[:, :, start : start + rows]


def in_order(chunks: list[np.ndarray], images: int, height: int) -> np.ndarray:
    """Put the rows of a score map, or of a layer behind fc6, in their order.

    Args:
        chunks: Values as `row_layers` orders them, (C, 2 * rows, w) float32.
        images: Whose rows stand below each other.
        height: Of the score map.

    Returns:
        (images, C, height, w) float32.
    """
    pairs = np.concatenate(
        [chunk.reshape(len(chunk), 2, -1, chunk.shape[2]) for chunk in chunks], 2
    )
    channels, _, _, width = pairs.shape
    each = pairs.reshape(channels, 2, images, -1, width).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(each.reshape(images, channels, -1, width)[:, :, :height])
