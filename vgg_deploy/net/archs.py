"""Holds Table 1 of the paper as data.

The nets differ only in their kernels, so only kernels are written down. Every layer name, parameter
count and cost elsewhere is derived from here.
"""

from dataclasses import dataclass
from typing import NamedTuple

WIDTHS = (64, 128, 256, 512, 512)  # output channels of stages 1..5, the same in every net
HIDDEN = 4096  # outputs of fc6 and fc7
STRIDE = 32  # five 2x2 pools


class Conv(NamedTuple):
    """One convolution: stride 1, with bias."""

    name: str  # "conv3_2", as in the released weights
    c_in: int
    c_out: int
    kernel: int  # side in pixels
    padding: int  # kernel // 2 in the trunk, 0 in the head


@dataclass(frozen=True)
class Arch:
    """One column of Table 1."""

    kernels: tuple[tuple[int, ...], ...]  # side of every kernel, one tuple per stage
    lrn: bool = False  # normalise once, after conv1_1

    def stages(self, width: float = 1.0) -> list[list[Conv]]:
        """The convolutions of the trunk, in running order.

        Args:
            width: Multiplier of all channels.

        Returns:
            One list per stage; a 2x2 max pool ends each stage.
        """
        stages: list[list[Conv]] = []
        c_in = 3
        for s, (c_full, kernels) in enumerate(zip(WIDTHS, self.kernels, strict=True), start=1):
            c_out = thin(c_full, width)
            stage = []
            for i, kernel in enumerate(kernels, start=1):
                stage.append(Conv(f"conv{s}_{i}", c_in, c_out, kernel, kernel // 2))
                c_in = c_out
            stages.append(stage)
        return stages

    def trunk(self, width: float = 1.0) -> list[Conv]:
        """The convolutions of all stages, in running order."""
        return [conv for stage in self.stages(width) for conv in stage]

    def head(self, classes: int, width: float = 1.0, crop: int = 224) -> list[Conv]:
        """The layers fc6, fc7 and fc8 as convolutions without padding (section 3.2).

        Args:
            classes: Outputs of fc8.
            width: Multiplier of all channels.
            crop: Side of the training crop in pixels; fc6's kernel is a 32nd of it.
        """
        trunk, hidden = thin(WIDTHS[-1], width), thin(HIDDEN, width)
        return [
            Conv("fc6", trunk, hidden, crop // STRIDE, 0),
            Conv("fc7", hidden, hidden, 1, 0),
            Conv("fc8", hidden, classes, 1, 0),
        ]


ARCHS = {  # stage: 1       2       3             4             5
    "A":     Arch(((3,),   (3,),   (3, 3),       (3, 3),       (3, 3))),
    "A-LRN": Arch(((3,),   (3,),   (3, 3),       (3, 3),       (3, 3)), lrn=True),
    "B":     Arch(((3, 3), (3, 3), (3, 3),       (3, 3),       (3, 3))),
    "C":     Arch(((3, 3), (3, 3), (3, 3, 1),    (3, 3, 1),    (3, 3, 1))),
    "D":     Arch(((3, 3), (3, 3), (3, 3, 3),    (3, 3, 3),    (3, 3, 3))),
    "E":     Arch(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))),
}  # fmt: skip


def thin(channels: int, width: float) -> int:
    """Channels after the width multiplier, at least one."""
    return max(1, round(channels * width))


def map_side(side: int, crop: int = 224) -> int:
    """Side of the score map of an image: five floor pools, then fc6 without padding.

    Args:
        side: Of the image, pixels.
        crop: Side of the training crop, pixels.
    """
    return side // STRIDE - crop // STRIDE + 1


def parameters(arch: Arch, classes: int = 1000, width: float = 1.0, crop: int = 224) -> int:
    """Number of weights and biases; pools, ReLU and LRN have none.

    Example:
        >>> parameters(ARCHS["D"])  # section 2.3: 138 million
        138357544
    """
    convs = arch.trunk(width) + arch.head(classes, width, crop)
    return sum(_weights(conv) + conv.c_out for conv in convs)


def macs(
    arch: Arch, height: int, width_px: int, classes: int = 1000, width: float = 1.0, crop: int = 224
) -> int:
    """Multiply-accumulates of one forward pass over one image, in dense mode.

    Counts convolutions only, borders included: no bias, ReLU, LRN or pool.

    Args:
        arch: The net.
        height: Of the image, pixels.
        width_px: Width of the image, pixels.
        classes: Outputs of fc8.
        width: Multiplier of all channels.
        crop: Side of the training crop, pixels.
    """
    return sum(macs_by_layer(arch, height, width_px, classes, width, crop).values())


def macs_by_layer(
    arch: Arch, height: int, width_px: int, classes: int = 1000, width: float = 1.0, crop: int = 224
) -> dict[str, int]:
    """Multiply-accumulates of each convolution over one image, counted as `macs`.

    Args:
        arch: As `macs`.
        height: As `macs`.
        width_px: As `macs`.
        classes: As `macs`.
        width: As `macs`.
        crop: As `macs`.

    Returns:
        By the name of the convolution, fc6 to fc8 included, in running order.
    """
    counts, h, w = {}, height, width_px
    for stage in arch.stages(width):
        counts.update({conv.name: _weights(conv) * h * w for conv in stage})
        h, w = h // 2, w // 2
    h, w = map_side(height, crop), map_side(width_px, crop)
    counts.update({conv.name: _weights(conv) * h * w for conv in arch.head(classes, width, crop)})
    return counts


def values_moved(
    arch: Arch,
    batch: int,
    height: int,
    width_px: int,
    classes: int = 1000,
    width: float = 1.0,
    crop: int = 224,
) -> int:
    """Values that the convolutions of one forward pass read and write.

    Every input, output and weight counts once. This is the least that memory must carry where
    nothing but ReLU and bias is fused. Pools are left out.

    Args:
        arch: The net.
        batch: Number of images.
        height: Of the images, pixels.
        width_px: Width of the images, pixels.
        classes: Outputs of fc8.
        width: Multiplier of all channels.
        crop: Side of the training crop, pixels.
    """
    total, h, w = 0, height, width_px
    for stage in arch.stages(width):
        total += sum((conv.c_in + conv.c_out) * batch * h * w + _weights(conv) for conv in stage)
        h, w = h // 2, w // 2
    for conv in arch.head(classes, width, crop):
        inputs = conv.c_in * h * w
        h, w = h - conv.kernel + 1, w - conv.kernel + 1
        total += (inputs + conv.c_out * h * w) * batch + _weights(conv)
    return total


def _weights(conv: Conv) -> int:
    """Number of a convolution's weights, without the biases."""
    return conv.kernel**2 * conv.c_in * conv.c_out
