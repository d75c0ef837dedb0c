"""Searches for few layers to keep in float, so that a net passes a trial.

The search knows nothing of nets: it is given an order of the layers and a trial.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Kept = frozenset[str]  # names of layers that are not quantized


class Found(NamedTuple):
    """What a search ends with.

    Attributes:
        kept: The layers to keep.
        passes: Whether a trial with them passed; if not, all layers but one are kept.
    """

    kept: Kept
    passes: bool


def find_layers(
    rank: Callable[[], Sequence[str]], sizes: Mapping[str, int], passes: Callable[[Kept], bool]
) -> Found:
    """Find layers to keep.

    If the trial passes with all layers quantized, none is kept and none is ranked. Else the
    smallest number k is searched such that the trial passes if the k most sensitive
    layers are kept: 1, 2, 4, 8 ... layers until it passes, then by bisection. Then every kept layer
    is tried in 8 bits again, the one with the largest weights first, and stays there if the trial
    passes without it. No set is tried twice. At least one layer is always quantized.

    Args:
        rank: Gives the layers, the most sensitive first, at least one; called only if some have to
            be kept.
        sizes: Number of weights by layer.
        passes: The trial.

    Example:
        >>> find_layers(lambda: "abc", {"a": 1, "b": 9, "c": 1}, lambda kept: "b" in kept)
        Found(kept=frozenset({'b'}), passes=True)
    """
    trials: dict[Kept, bool] = {}

    def tried(kept: Kept) -> bool:
        if kept not in trials:
            trials[kept] = passes(kept)
        return trials[kept]

    if tried(frozenset()):
        return Found(frozenset(), True)
    order = rank()
    kept = _most_sensitive(order, tried)
    if kept is None:
        return Found(frozenset(order[:-1]), False)
    for layer in sorted(kept, key=lambda name: (-sizes[name], name)):
        if tried(kept - {layer}):
            kept -= {layer}
    return Found(kept, True)


def safer(order: Sequence[str], kept: Kept) -> Kept | None:
    """A larger set of layers: half of those that are quantized, the most sensitive, are kept too.

    Args:
        order: The layers, the most sensitive first.
        kept: The layers that are kept so far.

    Returns:
        None if at most one layer is quantized.
    """
    quantized = [name for name in order if name not in kept]
    if len(quantized) < 2:
        return None
    return kept | set(quantized[: len(quantized) // 2])


def _most_sensitive(order: Sequence[str], passes: Callable[[Kept], bool]) -> Kept | None:
    """The fewest first layers of the order with which the trial passes."""
    most = len(order) - 1
    failing, tried = -1, 0  # numbers of layers that are kept
    while not passes(frozenset(order[:tried])):
        failing = tried
        if tried == most:
            return None
        tried = min(most, max(1, 2 * tried))
    passing = tried
    while passing - failing > 1:
        tried = (failing + passing) // 2
        if passes(frozenset(order[:tried])):
            passing = tried
        else:
            failing = tried
    return frozenset(order[:passing])
