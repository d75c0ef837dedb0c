"""Names what a runtime computes at once: the paper's layers, and what a net does around them."""

from collections.abc import Iterable, Mapping, Sequence

INPUT = "input"  # types and mean, ahead of the first layer
POSTERIOR = "posterior"  # average of the scores, and softmax
LAYOUT = "layout"  # values brought into another order in memory, wherever the net does so
AROUND = (INPUT, POSTERIOR, LAYOUT)

# The layers that are computed at once, in running order; or one of AROUND
Part = tuple[str, ...]


def part_name(part: Part) -> str:
    """A part as tables name it.

    Example:
        >>> part_name(("conv1_1", "relu1_1"))
        'conv1_1 + relu1_1'
    """
    return " + ".join(part)


def part_of_name(name: str) -> Part:
    """The part that `part_name` names."""
    return tuple(name.split(" + "))


def convolution_of(part: Part) -> str | None:
    """The convolution of a part; fc6 to fc8 are among them. None for a part without one."""
    return next((name for name in part if name.startswith(("conv", "fc"))), None)


def parts_of(layers: Sequence[str], computed: Iterable[str]) -> list[Part]:
    """Group layers: one that a runtime does not compute by itself belongs to the one before it.

    Args:
        layers: Names of all layers, in running order.
        computed: Those that the runtime has an operation for.

    Example:
        >>> parts_of(["conv1_1", "relu1_1", "pool1"], {"conv1_1", "pool1"})
        [('conv1_1', 'relu1_1'), ('pool1',)]
    """
    own = set(computed)
    parts: list[list[str]] = []
    for name in layers:
        if name in own or not parts:
            parts.append([name])
        else:
            parts[-1].append(name)
    return [tuple(part) for part in parts]


def owners(parts: Iterable[Part]) -> Mapping[str, Part]:
    """The part that each layer belongs to."""
    return {name: part for part in parts for name in part}
