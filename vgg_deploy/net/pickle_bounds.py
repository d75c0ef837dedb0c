"""Bounds what a pickle can claim, before anything unpickles it.

A pickle of a few bytes can ask for any amount of memory: an index of its memo reserves that many
entries, and bytearray(10**9) is a class that PyTorch's safe reader allows. So the instructions are
read first, without running them. Classes that later protocols name in another way are refused by
PyTorch's reader itself.
"""

import io
import pickle
import pickletools
from typing import BinaryIO

MOST_BYTES = 256 * 2**20  # of the instructions; a net's take some kilobytes
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
CLASSES = ("GLOBAL", "INST")
BYTEARRAY = ("builtins bytearray", "__builtin__ bytearray")


def check_pickle(data: bytes) -> None:
    """Check the instructions of one pickle.

    Args:
        data: Begins with a pickle; what follows it is not read.

    Raises:
        pickle.UnpicklingError: If an instruction claims more memory than the pickle has bytes.
        ValueError: If it is no pickle.
    """
    check_next_pickle(io.BytesIO(data), len(data))


def check_next_pickle(file: BinaryIO, size: int) -> None:
    """Check the instructions of the pickle at a file's position, and go to its end.

    Args:
        file: At the beginning of a pickle.
        size: Bytes of the whole file.

    Raises:
        pickle.UnpicklingError: If an instruction claims more memory than there are bytes.
        ValueError: If it is no pickle.
    """
    begin = file.tell()
    for instruction, value, at in pickletools.genops(file):
        name = instruction.name
        if at is not None and at - begin > MOST_BYTES:
            raise pickle.UnpicklingError("its description is too long")
        if name in MEMO and isinstance(value, int) and not 0 <= value <= size:
            raise pickle.UnpicklingError(f"it reserves {value} entries")
        if name in CLASSES and value in BYTEARRAY:
            raise pickle.UnpicklingError("it makes a bytearray, which no net has")
