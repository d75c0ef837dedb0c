"""Writes the rescale of whole images as ONNX nodes: Pillow's pixels, bit for bit.

Pillow rescales 8-bit images in two passes, one along each axis. Each output pixel is a weighted sum
of a window of input pixels. The weights are computed in float64, rounded to 22 bits behind the
point, and summed up in integers; each pass rounds to 8 bits. ONNX's Resize rounds once and in
another way, so it differs by up to two grey levels.

The width comes first. From version 13 on Pillow begins with the height where the height loses more
than twice as many pixels as the width. Such images go through the same nodes on their side.

The graph computes the weights from the size of the image. A loop adds up one pixel of every window
at a time, so the memory of a pass is that of its result, whatever the size of the image.
"""

from functools import cache

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

from export.onnx.nodes import Nodes
from vgg_deploy.exported.interface import PIXELS

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # half the width of the filter, pixels
BITS = 22  # of the weights behind the point
PREFIX = "rescale."
BICUBIC_A = -0.5  # Pillow's


@cache
def tall_first() -> bool:
    """Whether the installed Pillow begins with the height of tall images."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 8, 3), np.uint8)
    image, bilinear = Image.fromarray(noise), Image.Resampling.BILINEAR
    by_height = image.resize((8, 30), bilinear).resize((4, 30), bilinear)
    return image.resize((4, 30), bilinear).tobytes() == by_height.tobytes()


def rescale_nodes(image: str, side: int, filter: str, crop: int | None) -> Nodes:
    """Write the nodes; all names begin with PREFIX.

    They compute what the installed Pillow computes.

    Args:
        image: Name of the input, (N, H, W, 3) uint8 RGB.
        side: Q, the shorter side afterwards, pixels.
        filter: "bilinear" or "bicubic".
        crop: Side of the centre crop, pixels; None: all of the rescaled image.

    Returns:
        Nodes whose last output is PIXELS.
    """
    writer = _Writer(filter)
    writer.write_sizes(image, side)
    writer.write_passes(image, crop)
    return writer.nodes


class _Writer:
    """Appends the nodes; every method gives names of values."""

    def __init__(self, filter: str):
        self.filter = filter
        self.nodes = Nodes()
        self.numbers: dict[tuple[str, float | int | tuple[int, ...]], str] = {}

    def write_sizes(self, image: str, side: int) -> None:
        """Height and width before and after, as `rescaled_size` has them, in integers."""
        self.shape = self.add("Shape", "shape", image)
        self.size = self.add("Slice", "size", self.shape, self.int64([1]), self.int64([3]))
        shorter = self.nodes.add("ReduceMin", f"{PREFIX}shorter", [self.size], {"keepdims": 1})
        scaled = self.add("Mul", "scaled", self.size, self.int64([2 * side]))
        rounded = self.add("Add", "half_up", scaled, shorter)
        twice = self.add("Mul", "twice", shorter, self.int64([2]))
        self.new_size = self.add("Div", "new_size", rounded, twice)

    def write_tall(self) -> str:
        """Whether the height comes first, [1] bool; the order of both sizes follows it."""
        lost = self.add("Sub", "lost", self.size, self.new_size)
        of_height, of_width = self.part("lost_height", lost, 0), self.part("lost_width", lost, 1)
        twice = self.add("Mul", "lost_width_twice", of_width, self.int64([2]))
        most = self.add("Max", "lost_most", twice, self.int64([0]))
        tall = self.add("Greater", "tall", of_height, most)
        for name in ("size", "new_size"):
            upright = getattr(self, name)
            turned = self.add("Gather", f"turned_{name}", upright, self.int64([1, 0]))
            setattr(self, name, self.add("Where", f"ordered_{name}", tall, turned, upright))
        return tall

    def write_passes(self, image: str, crop: int | None) -> None:
        """Both passes; each has the axis of its windows in front of contiguous values.

        Of an image on its side height and width are exchanged.
        """
        upright_size, tall = self.new_size, ""
        if tall_first():
            tall = self.write_tall()
            image = self.write_if("laid", tall, image, [0, 2, 1, 3], [0, 1, 2, 3])
        count = self.part("count", self.shape, 0)
        height, width = self.part("height", self.size, 0), self.part("width", self.size, 1)
        new_height = self.part("new_height", self.new_size, 0)
        new_width = self.part("new_width", self.new_size, 1)
        rest, colours = self.int64([-1]), self.int64([3])
        rows = self.reshaped("rows", image, count, height, rest)  # (N, H, 3W)
        columns = self.turned("columns", rows)  # (N, 3W, H)
        windows = self.reshaped("across.values", columns, count, width, rest)  # (N, W, 3H)
        narrow = self.write_pass("across", windows, 1)  # (N, w, 3H)
        columns = self.reshaped("across.columns", narrow, count, rest, height)  # (N, 3w, H)
        windows = self.turned("down.values", columns)  # (N, H, 3w)
        low = self.write_pass("down", windows, 0)  # (N, h, 3w)
        small = self.reshaped("image", low, count, new_height, new_width, colours)
        output = PIXELS if crop is None else f"{PREFIX}planes.out"
        if tall:
            self.write_if("planes", tall, small, [0, 3, 2, 1], [0, 3, 1, 2], output)
        else:
            self.nodes.add("Transpose", f"{PREFIX}planes", [small], {"perm": [0, 3, 1, 2]}, output)
        if crop is not None:
            self.new_size = upright_size
            self.write_crop(output, crop)

    def write_if(
        self,
        name: str,
        condition: str,
        value: str,
        if_true: list[int],
        if_false: list[int],
        output: str | None = None,
    ) -> str:
        """Exchange axes in one of two ways; gives the name of the output."""
        output = output or f"{PREFIX}{name}.out"
        branches = {}
        for branch, perm in (("then_branch", if_true), ("else_branch", if_false)):
            nodes, result = Nodes(), f"{PREFIX}{name}.{branch}.out"
            nodes.add("Transpose", f"{PREFIX}{name}.{branch}", [value], {"perm": perm})
            given = helper.make_tensor_value_info(result, TensorProto.UINT8, None)
            branches[branch] = helper.make_graph(
                nodes.nodes, f"{PREFIX}{name}.{branch}", [], [given]
            )
        node = helper.make_node("If", [condition], [output], f"{PREFIX}{name}", **branches)
        self.nodes.nodes.append(node)
        return output

    def write_crop(self, planes: str, crop: int) -> None:
        """The square in the middle; halves go to the even number, as in `crops.offset`."""
        spare = self.add("Sub", "crop.spare", self.new_size, self.int64([crop]))
        float_spare = self.cast("crop.spare_float", spare, TensorProto.DOUBLE)
        half = self.add("Mul", "crop.half", float_spare, self.float64(0.5))
        even = self.add("Round", "crop.even", half)
        start = self.cast("crop.start", even, TensorProto.INT64)
        end = self.add("Add", "crop.end", start, self.int64([crop]))
        axes = self.int64([2, 3])
        self.nodes.add("Slice", f"{PREFIX}crop", [planes, start, end, axes], output=PIXELS)

    def write_pass(self, name: str, values: str, axis: int) -> str:
        """Rescale along one axis.

        Args:
            name: Of the pass.
            values: (N, length, M) uint8.
            axis: Of `size`: 0 for the height, 1 for the width.

        Returns:
            (N, new length, M) uint8.
        """
        index = self.int64(axis)
        length = self.add("Gather", f"{name}.length", self.size, index)
        new_length = self.add("Gather", f"{name}.new_length", self.new_size, index)
        places, weights, taps = self.write_weights(name, length, new_length)
        start = self.write_start(name, values, new_length)
        total = self.write_loop(name, values, places, weights, taps, start)
        shifted = self.add("Div", f"{name}.shifted", total, self.int32(1 << BITS))
        if self.filter == "bicubic":  # whose sums can leave the range of a byte
            above = self.add("Max", f"{name}.above", shifted, self.int32(0))
            shifted = self.add("Min", f"{name}.below", above, self.int32(255))
        return self.cast(f"{name}.rounded", shifted, TensorProto.UINT8)

    def write_weights(self, name: str, length: str, new_length: str) -> tuple[str, str, str]:
        """The windows of a pass, in the order of operations that Pillow has.

        Returns:
            Places of pixels (taps, new length) int64, their weights (taps, new length, 1) int32,
            and the number of taps.
        """
        one, half = self.float64(1.0), self.float64(0.5)
        float_length = self.cast(f"{name}.float_length", length, TensorProto.DOUBLE)
        float_new = self.cast(f"{name}.float_new_length", new_length, TensorProto.DOUBLE)
        scale = self.add("Div", f"{name}.scale", float_length, float_new)
        stretch = self.add("Max", f"{name}.stretch", scale, one)
        support = self.add("Mul", f"{name}.support", stretch, self.float64(SUPPORT[self.filter]))
        shrink = self.add("Div", f"{name}.shrink", one, stretch)
        taps = self.write_taps(name, support)
        zero, step = self.int64(0), self.int64(1)
        steps = self.add("Range", f"{name}.steps", zero, new_length, step)
        float_steps = self.cast(f"{name}.float_steps", steps, TensorProto.DOUBLE)
        middles = self.add("Add", f"{name}.middles", float_steps, half)
        centre = self.add("Mul", f"{name}.centre", middles, scale)
        lower = self.add("Sub", f"{name}.lower", centre, support)
        lowest = self.truncated(f"{name}.lowest", lower)
        first = self.add("Max", f"{name}.first", lowest, zero)
        upper = self.add("Add", f"{name}.upper", centre, support)
        highest = self.truncated(f"{name}.highest", upper)
        end = self.add("Min", f"{name}.end", highest, length)
        numbers = self.add("Range", f"{name}.numbers", zero, taps, step)
        column = self.add("Unsqueeze", f"{name}.column", numbers, self.int64([1]))
        places = self.add("Add", f"{name}.places", first, column)
        float_places = self.cast(f"{name}.float_places", places, TensorProto.DOUBLE)
        apart = self.add("Sub", f"{name}.apart", float_places, centre)
        from_middle = self.add("Add", f"{name}.from_middle", apart, half)
        scaled = self.add("Mul", f"{name}.scaled", from_middle, shrink)
        distance = self.add("Abs", f"{name}.distance", scaled)
        curve = getattr(self, f"write_{self.filter}")(name, distance)
        inside = self.add("Less", f"{name}.inside", places, end)
        weight = self.add("Where", f"{name}.weight", inside, curve, self.float64(0.0))
        total = self.nodes.add(
            "ReduceSum", f"{PREFIX}{name}.total", [weight, self.int64([0])], {"keepdims": 1}
        )
        share = self.add("Div", f"{name}.share", weight, total)
        large = self.add("Mul", f"{name}.large", share, self.float64(float(1 << BITS)))
        if self.filter == "bicubic":  # halves go away from zero
            sign = self.add("Sign", f"{name}.sign", large)
            half = self.add("Mul", f"{name}.half", sign, half)
        rounded = self.add("Add", f"{name}.half_up", large, half)
        integer = self.cast(f"{name}.integer", rounded, TensorProto.INT32)
        weights = self.add("Unsqueeze", f"{name}.weights", integer, self.int64([2]))
        last = self.add("Sub", f"{name}.last", length, step)
        return self.add("Min", f"{name}.inner_places", places, last), weights, taps

    def write_taps(self, name: str, support: str) -> str:
        """Number of pixels in a window: twice the support, rounded up, and one."""
        ceiling = self.add("Ceil", f"{name}.ceiling", support)
        reach = self.cast(f"{name}.reach", ceiling, TensorProto.INT64)
        both = self.add("Add", f"{name}.both", reach, reach)
        return self.add("Add", f"{name}.taps", both, self.int64(1))

    def write_bilinear(self, name: str, distance: str) -> str:
        """1 - d, and 0 from 1 on."""
        line = self.add("Sub", f"{name}.line", self.float64(1.0), distance)
        return self.add("Max", f"{name}.curve", line, self.float64(0.0))

    def write_bicubic(self, name: str, distance: str) -> str:
        """Keys' cubic: one polynomial up to 1, another up to 2, in Horner's form as in Pillow."""
        a, d = BICUBIC_A, distance

        def step(op: str, part: str, left: str, right: str) -> str:
            return self.add(op, f"{name}.{part}", left, right)

        inner = step("Mul", "inner_1", self.float64(a + 2), d)
        inner = step("Sub", "inner_2", inner, self.float64(a + 3))
        inner = step("Mul", "inner_3", inner, d)
        inner = step("Mul", "inner_4", inner, d)
        inner = step("Add", "inner_5", inner, self.float64(1.0))
        outer = step("Sub", "outer_1", d, self.float64(5.0))
        outer = step("Mul", "outer_2", outer, d)
        outer = step("Add", "outer_3", outer, self.float64(8.0))
        outer = step("Mul", "outer_4", outer, d)
        outer = step("Sub", "outer_5", outer, self.float64(4.0))
        outer = step("Mul", "outer_6", outer, self.float64(a))
        near = step("Less", "near", d, self.float64(1.0))
        within = step("Less", "within", d, self.float64(2.0))
        far = self.add("Where", f"{name}.far", within, outer, self.float64(0.0))
        return self.add("Where", f"{name}.curve", near, inner, far)

    def write_start(self, name: str, values: str, new_length: str) -> str:
        """What the sums begin with: one half, (N, new length, M) int32."""
        shape = self.add("Shape", f"{name}.shape", values)
        count = self.part(f"{name}.shape_count", shape, 0)
        each = self.part(f"{name}.shape_values", shape, 2)
        length = self.add("Unsqueeze", f"{name}.shape_length", new_length, self.int64([0]))
        target = self.nodes.add(
            "Concat", f"{PREFIX}{name}.shape_result", [count, length, each], {"axis": 0}
        )
        return self.add("Expand", f"{name}.start", self.int32(1 << (BITS - 1)), target)

    def write_loop(
        self, name: str, values: str, places: str, weights: str, taps: str, start: str
    ) -> str:
        """Add up the windows, one pixel of each at a time: (N, new length, M) int32."""
        at = f"{PREFIX}{name}.loop"
        body = Nodes()
        place = body.add("Gather", f"{at}.place", [places, f"{at}.tap"], {"axis": 0})
        weight = body.add("Gather", f"{at}.weight", [weights, f"{at}.tap"], {"axis": 0})
        pixel = body.add("Gather", f"{at}.pixel", [values, place], {"axis": 1})
        integer = body.add("Cast", f"{at}.integer", [pixel], {"to": int(TensorProto.INT32)})
        product = body.add("Mul", f"{at}.product", [integer, weight])
        body.add("Add", f"{at}.add", [f"{at}.sum", product], output=f"{at}.new_sum")
        body.add("Identity", f"{at}.goes_on", [f"{at}.go_on"], output=f"{at}.still")
        graph = helper.make_graph(
            body.nodes,
            f"{at}.body",
            [
                helper.make_tensor_value_info(f"{at}.tap", TensorProto.INT64, []),
                helper.make_tensor_value_info(f"{at}.go_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"{at}.sum", TensorProto.INT32, None),
            ],
            [
                helper.make_tensor_value_info(f"{at}.still", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"{at}.new_sum", TensorProto.INT32, None),
            ],
        )
        loop = helper.make_node("Loop", [taps, "", start], [f"{at}.out"], at, body=graph)
        self.nodes.nodes.append(loop)
        return f"{at}.out"

    def add(self, op: str, name: str, *inputs: str) -> str:
        """Append a node without attributes."""
        return self.nodes.add(op, f"{PREFIX}{name}", inputs)

    def cast(self, name: str, value: str, to: int) -> str:
        """Continue in another type."""
        return self.nodes.add("Cast", f"{PREFIX}{name}", [value], {"to": int(to)})

    def truncated(self, name: str, value: str) -> str:
        """A half more, without what is behind the point: int64."""
        more = self.add("Add", f"{name}_half", value, self.float64(0.5))
        return self.cast(name, more, TensorProto.INT64)

    def part(self, name: str, shape: str, index: int) -> str:
        """One entry of a shape, of rank 1."""
        return self.add("Slice", name, shape, self.int64([index]), self.int64([index + 1]))

    def reshaped(self, name: str, value: str, *shape: str) -> str:
        """The same values in another shape."""
        target = self.nodes.add("Concat", f"{PREFIX}{name}.shape", shape, {"axis": 0})
        return self.add("Reshape", name, value, target)

    def turned(self, name: str, value: str) -> str:
        """(N, a, b) -> (N, b, a)."""
        return self.nodes.add("Transpose", f"{PREFIX}{name}", [value], {"perm": [0, 2, 1]})

    def int64(self, number: int | list[int]) -> str:
        """A stored integer, or several."""
        key = tuple(number) if isinstance(number, list) else number
        return self._number("int64", key, np.array(number, np.int64))

    def int32(self, number: int) -> str:
        """A stored integer of 32 bits."""
        return self._number("int32", number, np.array(number, np.int32))

    def float64(self, number: float) -> str:
        """A stored number."""
        return self._number("float64", number, np.array(number, np.float64))

    def _number(self, kind: str, number: float | int | tuple[int, ...], array: np.ndarray) -> str:
        key = (kind, number)
        if key not in self.numbers:
            name = f"{PREFIX}number_{len(self.numbers)}"
            self.numbers[key] = self.nodes.stored(name, array)
        return self.numbers[key]
