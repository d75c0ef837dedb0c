"""Reads ncnn's text of a net: which layers compute something, and what they read and give."""

from pathlib import Path
from typing import NamedTuple

BEFORE = ("subtract_mean", "denormalise")  # ahead of conv1_1
AFTER = ("mean_score", "softmax")  # behind fc8
WITHOUT_WORK = ("Input", "Split", "Noop")  # types of layers


class Step(NamedTuple):
    """One layer.

    Attributes:
        name: Of the layer.
        reads: The value that it takes.
        gives: The value that it gives, under a name that can be asked for.
    """

    name: str
    reads: str
    gives: str


def ncnn_steps(param: Path) -> list[Step]:
    """The layers that compute something, in running order.

    Args:
        param: ncnn's text of a net, compared with its description already.
    """
    steps: list[Step] = []
    for line in param.read_text(encoding="utf-8").splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        values = rest[int(inputs) : int(inputs) + int(outputs)]
        if kind == "Split":
            # a value with a name for each reader; the first is not read by a layer
            steps[-1] = steps[-1]._replace(gives=values[0])
        elif kind not in WITHOUT_WORK:
            steps.append(Step(name, rest[0], values[-1]))
    return steps
