"""Gives a JSON document a SHA-256 of its own content, and compares the two.

In a document with numbers a damaged digit is as valid as the right one, and the order of classes
is no less an order when two of them are exchanged. The digest is that of the parsed content, so
white space and the order of keys do not matter.

Example:
    >>> document = sealed({"lr": 0.01})
    >>> check_seal(document, "config.json", "restore it")
    >>> check_seal({**document, "lr": 0.1}, "config.json", "restore it")
    Traceback (most recent call last):
    vgg_deploy.errors.InputError: config.json: its content is not what was written (another sha256
    than its content_sha256); restore it
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import JsonObject, read_json_object

KEY = "content_sha256"


def sealed(document: Mapping[str, object]) -> JsonObject:
    """Add the digest of a document, or replace an older one.

    Args:
        document: What JSON can hold.

    Returns:
        The document, with its digest as the last entry.
    """
    content = {name: value for name, value in document.items() if name != KEY}
    return {**content, KEY: _digest(content)}


def check_seal(document: JsonObject, where: str, hint: str) -> None:
    """Compare a document with its digest. One that has none is of an earlier version, and passes.

    Args:
        document: As it was parsed.
        where: Names the file in errors.
        hint: What the user can do about it.

    Raises:
        InputError: If the content has changed since it was sealed.
    """
    if KEY in document and sealed(document)[KEY] != document[KEY]:
        raise InputError(
            f"{where}: its content is not what was written (another sha256 than its {KEY})", hint
        )


def read_sealed(path: Path, hint: str) -> JsonObject:
    """Read a JSON object from a file, and compare it with its digest.

    Args:
        path: The file.
        hint: What the user can do about a damaged file.

    Raises:
        InputError: As `read_json_object` and `check_seal`.
    """
    document = read_json_object(path, hint)
    check_seal(document, str(path), hint)
    return document


def _digest(content: JsonObject) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
