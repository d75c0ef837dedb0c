"""Counts the memory that an update keeps for its backward pass, from the net's layers alone.

Autograd keeps what a layer needs to find its gradients: the input of a convolution, the result of a
ReLU, the places of the maxima of a pool. A ReLU writes over its input, so its result and the input
of the next layer are one array. Weights are not counted: they are there anyway.
"""

from dataclasses import dataclass

from train.recipe.config import TrainConfig
from vgg_deploy.net.archs import ARCHS, HIDDEN, STRIDE, WIDTHS, Conv, thin
from vgg_deploy.net.box_outputs import NUMBERS

FLOAT32, HALF, INDEX = 4, 2, 8  # bytes of a value, of one in half precision, of an int64
LRN_BORDER = 4  # channels of zeros around the squares of local response normalisation
# arrays as large as a layer's output while its gradients are computed: the gradients of output and
# input, and a copy in the order that the convolution reads
AT_WORK = 3


@dataclass(frozen=True)
class Layer:
    """What one layer adds, bytes per image.

    Attributes:
        kept: Until its backward pass.
        output: Its result.
    """

    kept: int
    output: int


def layers_of(config: TrainConfig, outputs: int, head_only: bool) -> list[Layer]:
    """What each layer of an update keeps, in running order; the loss is the last.

    Args:
        config: Net, crop, precision, dropout and task.
        outputs: Channels of fc8.
        head_only: Whether fc6-fc8 alone are trained, on pool5.
    """
    value = FLOAT32 if config.precision == "fp32" else HALF
    channels, side = thin(WIDTHS[-1], config.width), config.crop // STRIDE
    layers = [] if head_only else _trunk(config, value)
    if head_only:
        pool5 = channels * side * side * value
        layers.append(Layer(pool5, pool5))
    hidden = thin(HIDDEN, config.width)
    mask = hidden * FLOAT32 if config.dropout else 0
    # fc6 and fc7: the result of the ReLU, the mask, and their product
    layers += [Layer(2 * hidden * value + mask, hidden * FLOAT32)] * 2
    # a localiser: the difference of four numbers, and where they are; else the logarithms of the
    # posteriors; and the label
    loss = NUMBERS * FLOAT32 + 2 * INDEX if config.localises else outputs * FLOAT32 + INDEX
    return [*layers, Layer(loss, outputs * FLOAT32)]


def _trunk(config: TrainConfig, value: int) -> list[Layer]:
    """The image, and conv1_1 to pool5."""
    arch, side = ARCHS[config.arch], config.crop
    image = 3 * side * side * value
    layers = [Layer(image, image)]
    for stage in arch.stages(config.width):
        for conv in stage:
            result = conv.c_out * side * side * value
            layers.append(Layer(result, result))
            if arch.lrn and conv.name == "conv1_1":
                layers.append(_lrn(conv, side, value))
        side //= 2
        pooled = stage[-1].c_out * side * side
        layers.append(Layer(pooled * (value + INDEX), pooled * value))
    return layers


def _lrn(conv: Conv, side: int, value: int) -> Layer:
    """Local response normalisation of a convolution's output, in float32 always.

    It keeps the squares with their border, the base and the result of the power, and its own
    result; in half precision also its input as float32.
    """
    plane = side * side * FLOAT32
    arrays = 3 if value == FLOAT32 else 4
    kept = (arrays * conv.c_out + conv.c_out + LRN_BORDER) * plane
    return Layer(kept, conv.c_out * plane)


def kept_bytes(layers: list[Layer]) -> int:
    """What one image keeps at the end of the forward pass, bytes."""
    return sum(layer.kept for layer in layers)


def peak_bytes(layers: list[Layer]) -> int:
    """The most that one image needs at any time of an update, bytes.

    The backward pass frees what a layer has kept once it is done with it.
    """
    held, peak = 0, 0
    for layer in layers:
        held += layer.kept
        peak = max(peak, held + AT_WORK * layer.output)
    return peak
