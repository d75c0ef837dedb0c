"""Writes an sdist again with one owner, one time and one order, which setuptools leaves open."""

import gzip
import os
import sys
import tarfile
from pathlib import Path


def rewrite(path: Path, epoch: int) -> None:
    """Write a .tar.gz again in place.

    Args:
        path: Of the archive.
        epoch: Time of all entries, seconds since 1970.
    """
    partial = path.with_name(f".{path.name}.partial")
    with (
        tarfile.open(path) as old,
        open(partial, "wb") as file,
        gzip.GzipFile("", "wb", 9, file, epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            entry.mtime, entry.pax_headers = epoch, {}
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.isdir() else 0o644
            new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
    os.replace(partial, path)


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]), int(os.environ["SOURCE_DATE_EPOCH"]))
