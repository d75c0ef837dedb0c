"""Lists of classes: ids in an order, and what people call them."""

import json
from collections.abc import Iterable
from pathlib import Path

from vgg_deploy.errors import InputError

SYNSET_LISTS = ("synsets.txt", "synset_words.txt")
CLASS_INDEX = "class_index.json"

ClassList = tuple[tuple[str, ...], tuple[str, ...]]  # ids in the order of a net's scores, and people's names for them


def read_class_list(path: Path) -> ClassList:
    """A net's classes from a synset list (one id a line, names after it) or from Keras' class index (JSON).

    Raises: InputError if it is neither.
    """
    path = Path(path)
    if path.suffix != ".json":
        listed = read_synsets(path)
        return tuple(listed), tuple(listed.values())
    index = _keras_index(path)
    if sorted(index) != list(range(len(index))):
        raise InputError(f"{path}: its positions are not 0 to {len(index) - 1}, each once; correct the list")
    return tuple(tuple(index[i][part] for i in range(len(index))) for part in (0, 1))


def read_synsets(path: Path) -> dict[str, str]:
    """wnid -> name, in the file's order; lines of "wnid" or "wnid name, other name"."""
    names = {}
    for number, line in enumerate(read_lines(path), start=1):
        id, _, words = line.partition(" ")
        if not id or id in names:
            raise InputError(f"{path}, line {number}: {f'{id} is there twice' if id else 'is empty'}, expected one wnid a line, each once")
        names[id] = words.split(",")[0].strip() or id
    return names


def keras_names(path: Path) -> dict[str, str]:
    """id -> name from a class index; its positions are not used."""
    return dict(_keras_index(path).values())


def _keras_index(path: Path) -> dict[int, tuple[str, str]]:
    """{"0": ["n01440764", "tench"], ...} with positions as numbers."""
    try:
        return {int(i): (str(id), str(name)) for i, (id, name) in json.loads("\n".join(read_lines(path))).items()}
    except (ValueError, AttributeError, TypeError):
        raise InputError(f'{path}: is not a class index, expected {{"0": ["n01440764", "tench"], ...}}; correct or remove it') from None


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without the white space round them; there is at least one."""
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); correct or remove it") from None
    if not text:
        raise InputError(f"{path}: is empty; correct or remove it")
    return [line.strip() for line in text.split("\n")]


def some(ids: Iterable[str]) -> str:
    """The first few, for messages."""
    ids = list(ids)
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
