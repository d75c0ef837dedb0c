"""Table 1 of the paper as data. The nets differ only in their kernels, so only kernels are written down;
every layer name, parameter count and cost elsewhere is derived from here."""

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

    kernels: tuple[tuple[int, ...], ...]  # kernel side of every convolution, one tuple a stage
    lrn: bool = False  # normalise once, after conv1_1

    def stages(self, width: float = 1.0) -> list[list[Conv]]:
        """The trunk in running order, one list a stage; a 2x2 max pool ends each stage."""
        stages, c_in = [], 3
        for s, (c_full, kernels) in enumerate(zip(WIDTHS, self.kernels, strict=True), start=1):
            c_out = thin(c_full, width)
            stages.append([])
            for i, kernel in enumerate(kernels, start=1):
                stages[-1].append(Conv(f"conv{s}_{i}", c_in, c_out, kernel, kernel // 2))
                c_in = c_out
        return stages

    def head(self, classes: int, width: float = 1.0, crop: int = 224) -> list[Conv]:
        """fc6, fc7 and fc8 as convolutions without padding (section 3.2)."""
        trunk, hidden = thin(WIDTHS[-1], width), thin(HIDDEN, width)
        return [
            Conv("fc6", trunk, hidden, crop // STRIDE, 0),
            Conv("fc7", hidden, hidden, 1, 0),
            Conv("fc8", hidden, classes, 1, 0),
        ]


ARCHS = {  #           stage 1 stage 2 stage 3       stage 4       stage 5
    "A": Arch(((3,), (3,), (3, 3), (3, 3), (3, 3))),
    "A-LRN": Arch(((3,), (3,), (3, 3), (3, 3), (3, 3)), lrn=True),
    "B": Arch(((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))),
    "C": Arch(((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))),
    "D": Arch(((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))),
    "E": Arch(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))),
}


def thin(channels: int, width: float) -> int:
    """Channels after the width multiplier, at least one."""
    return max(1, round(channels * width))


def map_side(side: int, crop: int = 224) -> int:
    """Side of the score map of an image side: floor pooling, then fc6 without padding."""
    return side // STRIDE - crop // STRIDE + 1


def parameters(arch: Arch, classes: int = 1000, width: float = 1.0, crop: int = 224) -> int:
    """Weights and biases; pools, ReLU and LRN have none."""
    convs = sum(arch.stages(width), []) + arch.head(classes, width, crop)
    return sum(c.kernel**2 * c.c_in * c.c_out + c.c_out for c in convs)


def macs(
    arch: Arch, height: int, width_px: int, classes: int = 1000, width: float = 1.0, crop: int = 224
) -> int:
    """Multiply-accumulates of one forward pass over one image of height x width_px pixels, in dense mode.

    Counts convolutions only, borders included: no bias, ReLU, LRN or pool.
    """
    total, h, w = 0, height, width_px
    for stage in arch.stages(width):
        total += sum(c.kernel**2 * c.c_in * c.c_out * h * w for c in stage)
        h, w = h // 2, w // 2
    h, w = map_side(height, crop), map_side(width_px, crop)
    return total + sum(
        c.kernel**2 * c.c_in * c.c_out * h * w for c in arch.head(classes, width, crop)
    )


def values_moved(
    arch: Arch,
    batch: int,
    height: int,
    width_px: int,
    classes: int = 1000,
    width: float = 1.0,
    crop: int = 224,
) -> int:
    """Values that the convolutions of one forward pass read and write: every input, output and weight once.

    The least that memory must carry where nothing but ReLU and bias is fused; pools are left out.
    """
    total, h, w = 0, height, width_px
    for stage in arch.stages(width):
        total += sum(
            (c.c_in + c.c_out) * batch * h * w + c.kernel**2 * c.c_in * c.c_out for c in stage
        )
        h, w = h // 2, w // 2
    for c in arch.head(classes, width, crop):
        above = h * w
        h, w = h - c.kernel + 1, w - c.kernel + 1
        total += (c.c_in * above + c.c_out * h * w) * batch + c.kernel**2 * c.c_in * c.c_out
    return total
