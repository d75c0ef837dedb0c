"""Keeps the kernels that TensorRT-RTX compiles when an engine first runs on a GPU.

An RTX engine holds no kernels for the GPU. They are compiled at the first call, which takes
seconds. RTX gives them as bytes, and takes them back when the engine is opened again. It checks
itself whether they are of its own version and of this GPU; here a digest finds damage.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from vgg_deploy.cache import cache_folder, or_uncached
from vgg_deploy.files import whole_file
from vgg_deploy.regular_files import read_regular

MAGIC = b"VGGRTX01"  # a file is this, the SHA-256 of the kernels, and the kernels
DIGEST_BYTES = 32
MOST_BYTES = 2**30  # of a file


def cache_path(engine_sha256: str, version: str | None, gpu: str) -> Path:
    """The file of an engine's kernels.

    Args:
        engine_sha256: Of the engine file, hex.
        version: Of tensorrt_rtx.
        gpu: Its name.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{engine_sha256[:32]}-{version}-{gpu}")
    return cache_folder() / "tensorrt-rtx" / f"{name}.kernels"


def read_kernels(path: Path) -> bytes:
    """The kernels of a file; none if it does not exist, cannot be read or is damaged."""
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError:
        return b""
    start = len(MAGIC) + DIGEST_BYTES
    digest, kernels = content[len(MAGIC) : start], content[start:]
    is_whole = content.startswith(MAGIC) and hashlib.sha256(kernels).digest() == digest
    return kernels if is_whole else b""


def write_kernels(path: Path, kernels: bytes) -> None:
    """Write kernels; if the cache cannot be written, that is reported once and costs time only."""
    with or_uncached(path), whole_file(path) as partial:
        partial.write_bytes(MAGIC + hashlib.sha256(kernels).digest() + kernels)


class RuntimeCache:
    """The kernels of one open engine.

    Attributes:
        config: For the engine's execution contexts, an IRuntimeConfig.
    """

    def __init__(self, engine: Any, path: Path):
        """Take the kernels of earlier runs.

        Args:
            engine: An ICudaEngine of tensorrt_rtx.
            path: Of `cache_path`.
        """
        self.path = path
        self.config: Any = engine.create_runtime_config()
        self.cache: Any = self.config.create_runtime_cache()
        self.stored = read_kernels(path)
        if self.stored and not self.cache.deserialize(self.stored):
            self.stored = b""  # of another driver, say; RTX compiles again
        self.config.set_runtime_cache(self.cache)
        self.shapes: set[tuple[int, ...]] = set()

    def note(self, shape: tuple[int, ...]) -> None:
        """Keep the kernels after a call; after the 1st, 2nd, 4th, 8th, ... new shape.

        Args:
            shape: Of the batch.
        """
        if shape in self.shapes:
            return
        self.shapes.add(shape)
        count = len(self.shapes)
        if count & (count - 1) == 0:
            self.save()

    def save(self) -> None:
        """Write the kernels if there are others than in the file."""
        kernels = bytes(self.cache.serialize())
        if kernels and kernels != self.stored:
            write_kernels(self.path, kernels)
            self.stored = kernels
