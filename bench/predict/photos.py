"""Finds the images that vgg-predict classifies: files, folders, web addresses, standard input."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.data.index_file import Names
from vgg_deploy.errors import InputError

STDIN = "-"
WEB = ("http://", "https://")
MOST_BYTES = 128 * 2**20  # of one image from the web or from standard input
PATIENCE_S = 30.0  # without an answer


@dataclass(frozen=True, eq=False)
class Photos(Dataset):
    """Images without labels, named by path, by web address, or "-" for standard input.

    Attributes:
        stdin: The bytes of standard input; empty where it is not read.
    """

    stdin: bytes = b""

    def where(self, index: int) -> str:
        """An image's name for messages and tables."""
        name = self.files[index]
        return "standard input" if name == STDIN else name

    def read(self, index: int) -> bytes:
        """Read or download an image as it is stored.

        Raises:
            InputError: If it cannot be read; names the image.
        """
        name = self.files[index]
        if name == STDIN:
            return self.stdin
        return _download(name) if name.startswith(WEB) else super().read(index)

    def _source(self, index: int) -> tuple[Path | BytesIO, str | None]:
        name = self.files[index]
        if name == STDIN or name.startswith(WEB):
            return BytesIO(self.read(index)), self.where(index)
        return Path(name), None


def find_photos(inputs: Sequence[str], stdin: bytes) -> tuple[Photos, int]:
    """List all images of all inputs, in the order of the inputs; folders sorted by name.

    Args:
        inputs: Files, folders, web addresses, "-".
        stdin: What standard input holds; empty if no input is "-".

    Returns:
        The images, and the number of files in folders that are not images by their names.

    Raises:
        InputError: For an input that does not exist, for another kind of address, or if there are
            no images at all.
    """
    names: list[str] = []
    others = 0
    for given in inputs:
        if given == STDIN or given.startswith(WEB):
            names.append(given)
            continue
        if "://" in given:
            raise InputError(f"{given}: is no http or https address; give one, or copy the image")
        if not os.path.exists(given):
            raise InputError(f"{given}: no such file or folder; give an image, a folder or a URL")
        if not os.path.isdir(given):
            names.append(given)
            continue
        for file in _files_below(Path(given)):
            if is_image(file):
                names.append(file)
            else:
                others += 1
    if not names:
        raise InputError(f"{', '.join(inputs)}: no images there; give a folder that has some")
    if names.count(STDIN) > 1:
        raise InputError("- is named twice, and standard input holds one image; name it once")
    return Photos(Path(), Names.of(names), np.zeros(0, np.int64), (), (), stdin=stdin), others


def _files_below(folder: Path) -> Iterator[str]:
    """All files of a folder and of the folders in it; links to folders are not followed."""
    for entry in entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path))
        elif not entry.is_dir():
            yield entry.path


def _download(address: str) -> bytes:
    """The content of a web address.

    Raises:
        InputError: If the server does not answer with it, or if it is too large.
    """
    request = Request(address, headers={"User-Agent": "vgg-predict"})
    try:
        with urlopen(request, timeout=PATIENCE_S) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        reason: object = error
        if isinstance(error, URLError) and not isinstance(error, HTTPError):
            reason = error.reason  # of an HTTPError it lacks the number, such as 404
        raise InputError(
            f"{address}: cannot be downloaded ({reason})", "check the address", "address"
        ) from None
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{address}: has more than {MOST_BYTES // 2**20} MiB", "check the address", "address"
        )
    return data
