"""Checks the saved state of an optimiser and a loss scaler before PyTorch takes it.

PyTorch copies what it is given; a tensor of another shape or a text for a rate would fail, or do
harm, many steps later.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from torch import Tensor

from vgg_deploy.errors import InputError


def check_saved_state(saved: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Compare a saved state with a fresh one of the same run.

    Args:
        saved: Of a checkpoint, with the entries of `fresh` and perhaps others.
        fresh: What `Updater.state` returns in a new run.

    Raises:
        InputError: If an entry is missing, or has another type or shape.
    """
    for name, value in fresh.items():
        wrong = _misfit(saved.get(name), value, name)
        if wrong:
            raise InputError(
                f"the checkpoint's training state is damaged at {wrong}",
                "resume from another checkpoint, or start a new run with its weights",
            )


def _misfit(saved: object, fresh: object, where: str) -> str | None:
    """The first place where two values differ in kind; None if there is none."""
    if isinstance(fresh, dict):
        if not isinstance(saved, dict):
            return where
        # other versions of PyTorch have fewer or more settings
        optional = "param_groups" in where
        entries = [
            name for name in fresh if name in saved or not optional or name in ("lr", "rate")
        ]
        found = (_misfit(saved.get(name), fresh[name], f"{where}.{name}") for name in entries)
        return next(filter(None, found), None)
    if isinstance(fresh, list):
        if not isinstance(saved, list) or len(saved) != len(fresh):
            return where
        pairs = enumerate(zip(saved, fresh, strict=True))
        found = (_misfit(old, new, f"{where}[{i}]") for i, (old, new) in pairs)
        return next(filter(None, found), None)
    if isinstance(fresh, Tensor):
        return None if _is_like(saved, fresh) else where
    if type(fresh) in (int, float):
        number = isinstance(saved, int | float) and not isinstance(saved, bool)
        return None if number and isfinite(saved) else where  # type: ignore[arg-type]
    return None if type(saved) is type(fresh) else where


def _is_like(saved: object, fresh: Tensor) -> bool:
    return (
        isinstance(saved, Tensor)
        and (saved.layout, saved.dtype, saved.shape) == (fresh.layout, fresh.dtype, fresh.shape)
        and not saved.is_meta
    )
