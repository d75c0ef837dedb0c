"""Measures caches, free disk space and shared memory."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from vgg_deploy.cache import cache_folder

SHARED_MEMORY = Path("/dev/shm")  # of Linux: images on their way from decoders


def storage() -> dict[str, Any]:
    """Caches with their sizes, and the free space of the folders that matter."""
    cache = cache_folder()
    return {
        "cache": str(cache),
        "cache_writable": is_writable(cache),
        "cache_bytes": folder_bytes(cache),
        "caches": {entry.name: folder_bytes(Path(entry.path)) for entry in _entries(cache)},
        "free": {
            "working folder": free_bytes(Path.cwd()),
            "cache": free_bytes(cache),
            "temporary files": free_bytes(Path(tempfile.gettempdir())),
        },
        "shared_memory_free": free_bytes(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None,
    }


def folder_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what cannot be read counts nothing."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(folder_bytes(Path(entry.path)) for entry in _entries(path))


def free_bytes(path: Path) -> int | None:
    """Free space where a folder is, or would be made; None if that is not known."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def is_writable(path: Path) -> bool:
    """Whether files can be written to a folder, or it can be made."""
    nearest = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
