"""Copies what a checkpoint holds, so that training can go on while it is written."""

from copy import deepcopy
from typing import Any

from torch import Tensor


def snapshot(content: Any) -> Any:
    """Copy tensors, in whatever dictionaries and lists they are, to the CPU's memory.

    Args:
        content: Of a checkpoint: weights, optimiser, state.

    Returns:
        The same structure. Nothing of it changes when the original does.
    """
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {name: snapshot(value) for name, value in content.items()}
    if isinstance(content, list):
        return [snapshot(value) for value in content]
    return deepcopy(content)
