"""Finds the state dict in what training loops save: wrappers, prefixes and what lies beside them.

`unwrapped` opens wrappers such as {"epoch": 3, "state_dict": {...}}, `without_prefix` shortens
names such as module.features.0.weight. Both say what they did. Nothing is guessed: of two
candidates neither is taken. Of trained weights and their moving average (EMA) the trained weights
are taken, and the average where it is alone.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, NoReturn

from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.stand_ins import StandIn
from vgg_deploy.net.torch_files import save_a_state_dict

TRAINED = (
    "state_dict", "model_state_dict", "net_state_dict", "model_state", "model", "net", "network",
    "module",
)  # fmt: skip
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_ema", "ema")
DEEPEST = 4  # wrappers in wrappers
# Of the first layer: one of them is in every layout that is read
FIRST_LAYER = ("features.0.weight", "conv1_1.weight", "conv1_1_W")
# Counts the updates of torch.optim.swa_utils.AveragedModel
AVERAGE_COUNTER = "n_averaged"


class Unwrapped(NamedTuple):
    """Named values of a file, and what was done to get at them."""

    values: dict[str, object]
    done: tuple[str, ...] = ()  # parts of a sentence, for people


def unwrapped(content: object, where: str) -> Unwrapped:
    """Open the wrappers around a state dict.

    Args:
        content: Of a torch file.
        where: Names the file in errors.

    Raises:
        InputError: For a whole pickled net, for two state dicts of which neither is an average, or
            for anything that names no tensors.
    """
    entry, done = content, []
    way: list[str] = []  # names of the opened wrappers
    for _ in range(DEEPEST + 1):
        if isinstance(entry, StandIn):
            _refuse_pickled(where, entry, way)
        if not isinstance(entry, dict):
            break
        key = _inner(entry, way, where)
        if key is None:
            break
        done += _left_out(entry, key)
        way.append(key)
        entry = entry[key]
    if not isinstance(entry, dict) or not entry or not all(isinstance(name, str) for name in entry):
        kind = type(entry).__name__
        raise InputError(f"{where}: holds a {kind} that names no tensors; save a state dict")
    if way:
        done.insert(0, f"the weights are its entry {'.'.join(way)}")
    return Unwrapped(dict(entry), tuple(done))


def without_prefix(values: Mapping[str, object], where: str) -> Unwrapped:
    """Shorten names that all begin with the same prefix, such as module. or model.net.

    The prefix is what stands before the name of the first layer.

    Args:
        values: By name.
        where: Names the file in errors.

    Raises:
        InputError: If a part of the names has the prefix, or two nets lie beside each other.
    """
    found = sorted({prefix for name in values for prefix in _prefixes(name)})
    trained = [prefix for prefix in found if not _is_average(prefix)] or found
    if len(trained) > 1:
        names = ", ".join(f"{prefix or ''}{_first_name(values, prefix)}" for prefix in trained)
        raise InputError(
            f"{where}: holds {len(trained)} nets, with first layers {names}; save the state dict "
            "of one of them"
        )
    if not trained or not trained[0] and len(found) == 1:
        return Unwrapped(dict(values))
    prefix = trained[0]
    averages = tuple(other for other in found if other != prefix)
    inside = {n.removeprefix(prefix): value for n, value in values.items() if n.startswith(prefix)}
    if averages and not prefix:
        inside = {n: value for n, value in inside.items() if not n.startswith(averages)}
    outside = [n for n in values if not n.startswith((prefix, *averages))]
    if outside:
        raise InputError(
            f"{where}: its first layer is named {prefix}{_first_name(values, prefix)}, but "
            f"{len(outside)} of its {len(values)} tensors lack the prefix {prefix}: "
            f"{few(outside)}; save the state dict of the net alone"
        )
    done = [f"names without the prefix {prefix}"] if prefix else []
    done += [f"the average {average[:-1]} is not used" for average in averages]
    return Unwrapped(inside, tuple(done))


def few(names: Collection[str], most: int = 4) -> str:
    """The first few names, for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


def _inner(entries: Mapping[object, object], way: list[str], where: str) -> str | None:
    """The entry with the weights; None if these are the weights, or if there are none.

    Raises:
        InputError: If there are several, or if a net lies there as an object.
    """
    trained, averaged = _candidates(entries, TRAINED), _candidates(entries, AVERAGED)
    candidates = trained or averaged
    inside = f" in {'.'.join(way)}" if way else ""
    if len(candidates) > 1:
        raise InputError(
            f"{where}: holds {len(candidates)} state dicts{inside}: {', '.join(candidates)}; save "
            "the one you mean alone: "
            f'torch.save(torch.load(FILE, weights_only=True)["{candidates[0]}"], NEW)'
        )
    if candidates:
        beside = [
            name
            for name, value in entries.items()
            if isinstance(value, Tensor) and str(name).endswith((".weight", ".bias"))
        ]
        if beside:
            raise InputError(
                f"{where}: holds a state dict{inside} as {candidates[0]}, and tensors of layers "
                f"beside it: {few(list(map(str, beside)))}; save one whole state dict"
            )
        return candidates[0]
    if not any(isinstance(value, Tensor) for value in entries.values()):
        for name in (*TRAINED, *AVERAGED):
            value = entries.get(name)
            if isinstance(value, StandIn):
                _refuse_pickled(where, value, [*way, name])
    return None


def _candidates(entries: Mapping[object, object], names: Iterable[str]) -> list[str]:
    return [name for name in names if _has_tensors(entries.get(name), DEEPEST)]


def _has_tensors(value: object, depth: int) -> bool:
    """Whether a value is a dictionary with tensors, directly or in dictionaries in it."""
    if not isinstance(value, dict) or depth == 0:
        return False
    return any(isinstance(v, Tensor) or _has_tensors(v, depth - 1) for v in value.values())


def _left_out(entries: Mapping[object, object], taken: str) -> list[str]:
    """Parts of a sentence about the entries beside the weights."""
    done = []
    if taken in AVERAGED:
        done.append(f"{taken} is a moving average of the trained weights, the only ones there")
    averages = [name for name in _candidates(entries, AVERAGED) if name != taken]
    if averages:
        done.append(f"the moving average {averages[0]} is not used")
    others = [str(name) for name in entries if name not in (taken, *averages)]
    if others:
        done.append(f"not used: {few(others, most=6)}")
    return done


def _refuse_pickled(where: str, found: StandIn, way: list[str]) -> NoReturn:
    """Refuse a net that was saved as an object.

    Raises:
        InputError: Always.
    """
    entry = "".join(f'["{name}"]' for name in way)
    what = f"its entry {'.'.join(way)}" if way else "it"
    raise InputError(
        f"{where}: {what} is a whole pickled object ({found.origin}), which can only be read by "
        "running its code, and no code of a file is run; "
        + save_a_state_dict(f"torch.load(FILE, weights_only=False){entry}")
    )


def _prefixes(name: str) -> list[str]:
    """What stands before the name of a first layer: one text, or nothing for another layer."""
    found = []
    for first in FIRST_LAYER:
        prefix = name.removesuffix(first)
        if name.endswith(first) and (not prefix or prefix.endswith(".")):
            found.append(prefix)
    return found


def _first_name(values: Mapping[str, object], prefix: str) -> str:
    return next(first for first in FIRST_LAYER if prefix + first in values)


def _is_average(prefix: str) -> bool:
    return any("ema" in part.split("_") for part in prefix.split("."))
