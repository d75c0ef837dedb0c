"""Reads what ILSVRC's devkit says of the validation images: its archive, unpacked or as downloaded.

ILSVRC2012_devkit_t12/data/meta.mat                                  ids, wnids and names
ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt    an id per image
"""

import gzip
import re
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from vgg_deploy.data.mat_file import Damaged, Row, read_struct
from vgg_deploy.data.tar_reader import open_members
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList, checked_classes
from vgg_deploy.regular_files import open_regular

META = "meta.mat"
TRUTH = re.compile(r"ILSVRC\d{4}_validation_ground_truth\.txt")
ID = re.compile(r"ILSVRC\d{4}_ID")
WNID = re.compile(r"n\d{8}")
MOST_BYTES = 2**26  # of the whole archive and of each of the two files; they have 2.5 MB
AGAIN = "download it again"


class Devkit(NamedTuple):
    """What the devkit says."""

    classes: ClassList  # in the order of its ids, which count from 1
    truth: list[str]  # lines of the ground truth


def is_devkit(name: str) -> bool:
    """Whether a file is the archive of a devkit by its name."""
    return "devkit" in name and name.endswith((".tar.gz", ".tgz"))


def read_devkit(path: Path) -> Devkit:
    """Read the archive of a devkit. Nothing is unpacked to the disk.

    Args:
        path: ILSVRC2012_devkit_t12.tar.gz.

    Raises:
        InputError: For another or a damaged file.
    """
    found: dict[str, bytes] = {}
    try:
        with open_regular(path) as raw, gzip.GzipFile(fileobj=raw) as file:
            limited = cast(BinaryIO, _Limited(file, path))
            for member in open_members(limited, str(path), MOST_BYTES):
                name = PurePosixPath(member.name).name
                if name == META or TRUTH.fullmatch(name):
                    found["truth" if name != META else META] = member.body.read(member.body.left)
                if len(found) == 2:
                    break
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a .tar.gz ({error}); {AGAIN}") from None
    if len(found) < 2:
        raise InputError(
            f"{path}: has no data/{META} or no ground truth of the validation images; {AGAIN}"
        )
    truth = found["truth"].decode("ascii", "replace").split()
    return Devkit(_classes(found[META], path), truth)


def _classes(data: bytes, path: Path) -> ClassList:
    """The classes of the challenge: synsets without children, in the order of their ids."""
    try:
        rows = read_struct(data, "synsets")
        leaves = [row for row in rows if _integer(row, "num_children") == 0]
        field = next((name for name in rows[0] if ID.fullmatch(name)), "ILSVRC2012_ID")
        by_id = {_integer(row, field): row for row in leaves}
        if sorted(by_id) != list(range(1, len(leaves) + 1)):
            raise Damaged("its ids are not 1 to the number of classes")
        ordered = [by_id[number] for number in range(1, len(leaves) + 1)]
        wnids = [_text(row, "WNID") for row in ordered]
        if not all(WNID.fullmatch(wnid) for wnid in wnids):
            raise Damaged("a WNID is not n and eight digits")
        names = [_text(row, "words").split(",")[0].strip() for row in ordered]
    except (Damaged, IndexError) as error:
        raise InputError(f"{path}, {META}: is not the list of synsets ({error}); {AGAIN}") from None
    return checked_classes(wnids, names, path)


def _integer(row: Row, field: str) -> int:
    value = row.get(field)
    if isinstance(value, np.ndarray) and value.size == 1 and float(value[0]).is_integer():
        return int(value[0])
    raise Damaged(f"{field} is no integer")


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise Damaged(f"{field} is no text")
    return value


class _Limited:
    """Refuses an archive that decompresses to more than a devkit can have."""

    def __init__(self, file: gzip.GzipFile, path: Path):
        self.file, self.path, self.left = file, path, MOST_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise InputError(
                f"{self.path}: has more than {MOST_BYTES // 2**20} MiB, which is no devkit; {AGAIN}"
            )
        return self.file.read(size)
