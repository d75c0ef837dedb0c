"""Loads torch files whose tensors lie beside objects of other classes, without running their code.

Training loops save their options, metrics and classes of their own beside the weights. PyTorch's
safe reader refuses such a file as a whole. Here it is given a class of ours in place of every class
that it does not know. The class does nothing, so the tensors can be read and no code of the file,
nor of any package that it names, is run.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MOST_CLASSES = 200  # of one file; a whole pickled net has about twenty
UNKNOWN = re.compile(r"GLOBAL (\S+) was not an allowed global")
FILLED_AS_DICT = re.compile(r"Can only SETITEMS? for dict.*but got <class '[\w.]*?stand_in:(\S+)'>")


class StandIn(list[Any]):
    """Stands for an object of the file; it does nothing with what the object would be given.

    A list, because PyTorch's reader appends to nothing else.
    """

    origin = ""  # the class or function that the file names

    def __init__(self, *args: object, **named: object):
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class _DictStandIn:
    """Becomes a plain dictionary, for classes whose objects are filled as dictionaries."""

    def __new__(cls, *args: object, **named: object) -> dict[Any, Any]:  # type: ignore[misc]
        """Ignore the arguments, such as the factory of a defaultdict."""
        return {}


def load_with_stand_ins(path: Path, archive: bool) -> object:
    """Load a torch file by PyTorch's safe reader, with stand-ins for classes that it refuses.

    Args:
        path: A torch file.
        archive: Whether it is a zip archive. The classes of an archive are found without reading
            its tensors.

    Returns:
        Its content. Objects of classes other than tensors and plain data are `StandIn`s.

    Raises:
        Exception: What `torch.load` raises for a file that it cannot read.
    """
    stand_ins: dict[str, type] = {}
    mmap = archive
    first: Exception | None = None  # it names a class, later ones may not
    while True:
        allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (stand_in, name) for name, stand_in in stand_ins.items()
        ]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
                # about sparse or quantized tensors, which are refused later
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            if not mmap:
                return content
            # now into memory: a mapped file that is shortened later would end the process
            mmap = False
        except Exception as error:  # torch raises almost anything for a damaged file
            first = first or error
            if len(stand_ins) > MOST_CLASSES or not _add_what_lacks(stand_ins, str(error)):
                raise first from None


def _add_what_lacks(stand_ins: dict[str, type], message: str) -> bool:
    """Add the stand-in that a message of torch asks for; False if it asks for none."""
    unknown = UNKNOWN.search(message)
    if unknown:
        # torch leaves "builtins." out of its message
        name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
        known = name in stand_ins
        stand_ins[name] = type(f"stand_in:{name}", (StandIn,), {"origin": name})
        return not known
    filled = FILLED_AS_DICT.search(message)
    if filled and filled[1] in stand_ins:
        known = not issubclass(stand_ins[filled[1]], StandIn)
        stand_ins[filled[1]] = type(f"stand_in:{filled[1]}", (_DictStandIn,), {})
        return not known
    return False
