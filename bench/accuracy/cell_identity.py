"""The identity of a cell: everything that its posteriors depend on, and the checksums of it.

An identity is a JSON object. Two cells with the same identity hold the same posteriors; a cell is
never used for another identity.
"""

import hashlib
import json
import zlib
from typing import Any

from vgg_deploy.machine import cpu_instructions, cpu_model, host_name

# Raise it when decoding, rescaling, views, the row or the meaning of a cell change
FORMAT = 2
DIGEST_DIGITS = 20  # of the SHA-256, in file names


def full_identity(
    described: dict[str, Any], images: int, classes: int, dtype: str
) -> dict[str, Any]:
    """The identity of a cell, as its manifest stores it.

    Args:
        described: What the posteriors depend on: model, runtime, views and images; ready for JSON.
        images: Number of rows.
        classes: Length of a posterior.
        dtype: "float32" or "float16", of the stored posteriors.

    Returns:
        `described` with the format and the size of the cell; tuples have become lists.
    """
    identity = {
        "format": FORMAT,
        **described,
        "images": images,
        "classes": classes,
        "dtype": dtype,
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(identity))
    return as_stored


def identity_checksum(identity: dict[str, Any]) -> int:
    """CRC-32 of the SHA-256 of an identity; the checksum of every row starts from it."""
    return zlib.crc32(_digest(identity).encode())


def file_name(identity: dict[str, Any]) -> str:
    """Name of a complete cell: what people look for, then a part of the identity's SHA-256."""
    mirrored = "-mirrored" if identity["mirrored"] else ""
    views = f"Q{identity['side']}-{identity['views']}{mirrored}"
    digest = _digest(identity)[:DIGEST_DIGITS]
    return f"{identity['runtime']}-{identity['precision']}-{views}-{digest}.npy"


def machine_identity(threads: int, processes: int) -> dict[str, Any]:
    """What a time depends on besides the model: this machine, and the part of it that a run uses.

    Args:
        threads: Of each process.
        processes: Of the job.
    """
    return {
        "host": host_name(),
        "cpu": cpu_model(),
        "instructions": cpu_instructions(),
        "threads": threads,
        "processes": processes,
    }


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
