"""JSON files of other programs, read without surprises."""

import json
from pathlib import Path

from vgg_deploy.errors import InputError


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Args:
        path: UTF-8, with or without a byte order mark.

    Raises:
        InputError: If the file cannot be read, is not JSON, or has a key twice in one object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as text ({error}); correct or remove it"
        ) from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> object:
    """As `read_json`, of text that was read already. Args: where, names it in errors."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        held: dict[str, object] = {}
        for key, value in pairs:
            if key in held:
                raise InputError(f"{where}: has the key {key!r} twice; correct or remove it")
            held[key] = value
        return held

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}, line {error.lineno}: is not JSON ({error.msg}); correct or remove it"
        ) from None
    except (RecursionError, ValueError):  # a number of thousands of digits is a ValueError
        raise InputError(
            f"{where}: is nested too deeply or has too long a number; correct or remove it"
        ) from None
