"""Reads JSON that was written elsewhere, with one clear error for everything that can be wrong.

`read_json` and `parse_json` refuse what Python's own parser accepts silently: a key that is there
twice in one object, NaN and infinity, and what would exhaust memory or the stack.

Example:
    >>> parse_json('{"epochs": 74}', "config.json")
    {'epochs': 74}
    >>> parse_json('{"lr": NaN}', "config.json")
    Traceback (most recent call last):
    vgg_deploy.errors.InputError: config.json: contains NaN, not a number; correct or remove it
"""

import json
import math
from pathlib import Path
from typing import NoReturn, TypeVar

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import read_regular

LARGEST = 256 * 2**20  # bytes of a file; a larger one is no JSON that this package reads
HINT = "correct or remove it"

JsonObject = dict[str, object]
T = TypeVar("T")
KINDS: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    list: "array",
    dict: "object",
}


def read_json(path: Path, hint: str = HINT) -> object:
    """Read a JSON file.

    Args:
        path: A regular file; UTF-8, with or without a byte order mark.
        hint: What the user can do about a damaged file.

    Returns:
        The content, as `json.loads` returns it.

    Raises:
        InputError: If the file is missing, cannot be read, is too large, or is not valid JSON;
            see `parse_json`.
    """
    try:
        text = read_regular(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({_reason(error)})", hint) from None
    return parse_json(text, str(path), hint)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """What an error says, without the name of the file."""
    return str(getattr(error, "strerror", None) or error)


def parse_json(text: str, where: str, hint: str = HINT) -> object:
    """Parse JSON text.

    Args:
        text: One JSON value.
        where: Names the file in errors.
        hint: What the user can do about it.

    Returns:
        The value, as `json.loads` returns it.

    Raises:
        InputError: If the text is not JSON, is nested too deeply, has a number that is not finite
            or has thousands of digits, or has a key twice in one object.
    """

    def unique(pairs: list[tuple[str, object]]) -> JsonObject:
        entries: JsonObject = {}
        for key, value in pairs:
            if key in entries:
                raise InputError(f"{where}: has the key {key!r} twice", hint)
            entries[key] = value
        return entries

    def refuse_constant(name: str) -> NoReturn:
        raise InputError(f"{where}: contains {name}, not a number", hint)

    def finite(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise InputError(f"{where}: contains {digits:.40}, too large a number", hint)
        return value

    try:
        return json.loads(
            text, object_pairs_hook=unique, parse_constant=refuse_constant, parse_float=finite
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{where}, line {error.lineno}: is not JSON ({error.msg})", hint) from None
    except (RecursionError, ValueError):  # a number of thousands of digits is a ValueError
        raise InputError(f"{where}: is nested too deeply or has too long a number", hint) from None


def read_json_object(path: Path, hint: str = HINT) -> JsonObject:
    """Read a JSON file whose content is an object.

    Args:
        path: As in `read_json`.
        hint: As in `read_json`.

    Raises:
        InputError: As in `read_json`, or if the content is not an object.
    """
    return as_object(read_json(path, hint), str(path), hint)


def as_object(value: object, where: str, hint: str = HINT) -> JsonObject:
    """Check that a parsed value is an object.

    Raises:
        InputError: If it is something else.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: is not a JSON object", hint)
    return value


def _as_float(value: int) -> float | int:
    """An integer as a number; itself if it is too large, which is no number then."""
    try:
        return float(value)
    except OverflowError:
        return value


def is_text(text: str) -> bool:
    """Whether a string can be written: JSON can hold halves of characters, which no file can."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def entry(entries: JsonObject, key: str, kind: type[T], where: str, hint: str = HINT) -> T:
    """Look up an entry of an object and check its type.

    Args:
        entries: A JSON object.
        key: The entry's name.
        kind: str, int, float, bool, list or dict. True is not an int; an int is a valid float.
        where: Names the file in errors.
        hint: What the user can do about it.

    Raises:
        InputError: If the entry is missing or has another type.
    """
    if key not in entries:
        raise InputError(f"{where}: has no {key!r}", hint)
    value = entries[key]
    if kind is float and type(value) is int:
        value = _as_float(value)
    is_bool = isinstance(value, bool)  # which Python counts among the integers
    if not isinstance(value, kind) or (is_bool and kind is not bool):
        raise InputError(f"{where}: {key} is {value!r:.60}, expected: {KINDS[kind]}", hint)
    return value
