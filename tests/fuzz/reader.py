"""What a reader is to the fuzzer, and the checksums that it can make fit to damaged content."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.mutations import Seal
from vgg_deploy.sealed_json import sealed


@dataclass(frozen=True)
class Victim:
    """A file that is damaged.

    Attributes:
        name: In the folder of the reader.
        kind: What it holds, see `mutations`.
        seal: Writes its checksums anew.
        exact: Whether changed bytes are refused or change nothing, for it has checksums.
    """

    name: str
    kind: str = "bytes"
    seal: Seal | None = None
    exact: bool = False


@dataclass(frozen=True)
class Reader:
    """One reader, its files and its oracle."""

    name: str
    make: Callable[[Path], tuple[Victim, ...]]
    read: Callable[[Path], object]


def seal_index(data: bytes) -> bytes:
    """Write the checksum of an index anew."""
    body = data[:-8]
    return body + np.array(zlib.crc32(body), "<i8").tobytes()


def seal_tar(data: bytes) -> bytes:
    """Write the checksums of all blocks that look like headers anew."""
    changed = bytearray(data)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            block = data[at : at + 148] + b" " * 8 + data[at + 156 : at + 512]
            changed[at + 148 : at + 156] = f"{sum(block):06o}\0 ".encode()
    return bytes(changed)


def seal_json(data: bytes) -> bytes:
    """Write the digest of a JSON object anew; other content stays as it is."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return json.dumps(sealed(document)).encode() if isinstance(document, dict) else data
