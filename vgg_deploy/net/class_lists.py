"""Reads lists of classes: ids in the order of a net's scores, and what people call them.

An id is the name of a class folder; a name is for people. These forms are read:

    text, one class per line   the whole line is the id and the name; or, where every line begins
                               with a wnid (n and 8 digits), the wnid is the id, and the text after
                               it, up to the first comma, is the name
    ["a", "b"]                 ids in their order
    {"0": "a", "1": "b"}       position -> id
    {"0": ["n01440764", "tench"], ...}   position -> id and name (Keras)
    {"a": 0, "b": 1}           id -> position (class_to_idx of torchvision's ImageFolder)

Positions count from 0. Anything else is refused; nothing is cut or guessed.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import parse_json
from vgg_deploy.regular_files import read_regular_text

SYNSET_LISTS = ("synsets.txt", "synset_words.txt")
CLASS_INDEX = "class_index.json"

WNID = re.compile(r"(n[0-9]{8})(?:[\s,:;]+(.*))?")
NUMBER_FIRST = re.compile(r"[(\[]?(?P<number>[0-9]{1,9})[\s,:;.=|)\]>-]+(?P<text>\S.*)")
NUMBER_LAST = re.compile(r"(?P<text>.*[^\s,:;=|>-])[\s,:;=|>-]+(?P<number>[0-9]{1,9})")
NUMBER_ALONE = re.compile(r"[0-9]{1,9}")
BULLETS = ("- ", "* ", "+ ", "\u2022 ")  # of lists in YAML and Markdown
# Control characters, lone surrogates, line and paragraph separators: no label can hold them
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
INVISIBLE = "\ufeff\u200b\u2060"  # byte order mark of joined files, spaces without width
FORMS = (
    'one class a line, or JSON: ["a", "b"], {"0": "a"}, {"0": ["n01440764", "tench"]} or {"a": 0}'
)


class ClassList(NamedTuple):
    """The classes of a net in the order of its scores."""

    ids: tuple[str, ...]
    names: tuple[str, ...]


def read_class_list(path: Path) -> ClassList:
    """Read a list of classes in any of the forms above.

    Raises:
        InputError: If the file has another form; the message names the line or the entry.
    """
    path = Path(path)
    lines = read_lines(path)
    if path.suffix == ".json" or lines[0][:1] in ("[", "{"):
        return _of_json(parse_json("\n".join(lines), str(path)), path)
    return _of_lines(lines, path)


Classes = Sequence[str] | str | os.PathLike[str]  # names in order, or the file that lists them


def class_list(classes: Classes) -> ClassList:
    """Take classes as a caller has them.

    Args:
        classes: Names in the order of the scores, which are the ids too; or the path of a list.

    Raises:
        InputError: As `read_class_list`.
    """
    if isinstance(classes, str | os.PathLike):
        return read_class_list(Path(classes))
    return checked_classes(list(classes), list(classes), Path("classes"))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, without the white space around them.

    Returns:
        At least one line.

    Raises:
        InputError: If the file cannot be read, or is empty.
    """
    try:
        text = read_regular_text(path, "utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read as text ({reason}); correct or remove it"
        ) from None
    if not text:
        raise InputError(f"{path}: is empty; correct or remove it")
    return [line.strip() for line in text.split("\n")]


def some(ids: Iterable[str]) -> str:
    """The first few ids, for messages.

    Example:
        >>> some(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    listed = list(ids)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def _of_lines(lines: list[str], path: Path) -> ClassList:
    """A text list: of wnids if every line begins with one, else of whole lines."""
    for number, line in enumerate(lines, start=1):
        if not line:
            raise InputError(f"{path}, line {number}: is empty, expected a class; correct the list")
    matches = [WNID.fullmatch(line) for line in lines]
    if all(matches):
        return _of_wnids(lines, path)
    _refuse_tables(lines, path)
    for number, line in enumerate(lines, start=1):
        _check_plain(line, f"{path}, line {number}")
    _refuse_repeats(lines, path, "line")
    return ClassList(tuple(lines), tuple(lines))


def _of_wnids(lines: list[str], path: Path) -> ClassList:
    ids: list[str] = []
    rests: list[str] = []
    for line in lines:
        match = WNID.fullmatch(line)
        assert match is not None  # the caller has looked
        ids.append(match[1])
        rests.append(match[2] or "")
    _refuse_repeats(ids, path, "line")
    _refuse_numbers([rest for rest in rests if rest], path)
    if all(NUMBER_ALONE.fullmatch(rest) for rest in rests):
        raise InputError(
            f"{path}, line 1: {lines[0]!r} has a number after the wnid, as every line has, and "
            "their order may differ from that of the lines; write the wnids alone in the order of "
            'the scores, or JSON {"n01440764": 0}'
        )
    names = []
    for number, (wnid, rest) in enumerate(zip(ids, rests, strict=True), start=1):
        _check_plain(rest, f"{path}, line {number}")
        names.append(rest.split(",")[0].strip() or wnid)
    return ClassList(tuple(ids), tuple(names))


def _check_plain(text: str, where: str) -> None:
    """Refuse what shows that a line is not the plain text of a class."""
    if "\t" in text:
        raise InputError(f"{where}: has columns (a tab), expected a class alone; give {FORMS}")
    if text[:1] == '"' or (len(text) > 1 and text[0] == text[-1] == "'"):
        raise InputError(
            f"{where}: {text} is in quotes, which would become part of the name; give {FORMS}"
        )
    if text[-1:] in (",", ";"):
        raise InputError(
            f"{where}: {text!r} ends with {text[-1]!r}, as in a part of other code; give {FORMS}"
        )
    _check_printable(text, where)


def _check_printable(text: str, where: str) -> None:
    for character in text:
        if unicodedata.category(character) in UNPRINTABLE or character in INVISIBLE:
            raise InputError(
                f"{where}: holds the character {ascii(character)}, which no label can hold; "
                "remove it"
            )


def _refuse_tables(lines: list[str], path: Path) -> None:
    """Tables whose rows would be taken for names: a header above wnids, or numbered rows."""
    header, rows = lines[0], lines[1:]
    for separator in (",", "\t", ";"):
        of_wnids = all(WNID.fullmatch(row) and row[9:10] == separator for row in rows)
        if rows and separator in header and of_wnids:
            raise InputError(
                f"{path}, line 1: {header!r} is the header of a table; remove it, so that every "
                "line begins with a wnid"
            )
    for bullet in BULLETS:
        if len(lines) > 1 and all(line.startswith(bullet) for line in lines):
            raise InputError(
                f"{path}, line 1: {lines[0]!r} begins with {bullet!r}, as every line does, which "
                f"would become part of the name; give {FORMS}"
            )
    _refuse_numbers(lines, path)


def _refuse_numbers(lines: list[str], path: Path) -> None:
    """Refuse lines that each have a number, whose order may differ from that of the lines.

    Names such as "grade 1", "grade 2" are no table: without the number they are all the same.
    """
    count = len(lines)
    for form, side in ((NUMBER_FIRST, "before"), (NUMBER_LAST, "after")):
        rows = [match for match in map(form.fullmatch, lines) if match]
        if count < 2 or len(rows) < count or len({row["text"] for row in rows}) < count:
            continue
        numbers = sorted(int(row["number"]) for row in rows)
        if numbers in (list(range(count)), list(range(1, count + 1))):
            raise InputError(
                f"{path}, line 1: {lines[0]!r} has a number {side} the class, as every line has; "
                'write the classes alone in the order of the scores, or JSON {"0": "a", "1": "b"}'
            )


def _refuse_repeats(ids: Sequence[str], path: Path, unit: str) -> None:
    first: dict[str, int] = {}
    for number, id in enumerate(ids, start=1):
        if id in first:
            raise InputError(
                f"{path}, {unit} {number}: {id} occurs twice, first in {unit} {first[id]}; "
                "give each class once"
            )
        first[id] = number


def _of_json(content: object, path: Path) -> ClassList:
    """A list in one of the four JSON forms."""
    if isinstance(content, list):
        return checked_classes(content, content, path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no list of classes; give {FORMS}")
    if content and all(type(value) is int for value in content.values()):
        ids = _in_order({id: (position, id) for id, position in content.items()}, path)
        return checked_classes(ids, ids, path)
    values = _in_order({key: (_number(key), value) for key, value in content.items()}, path)
    if not values or not all(isinstance(value, list) and len(value) == 2 for value in values):
        return checked_classes(values, values, path)
    ids, names = [value[0] for value in values], [value[1] for value in values]
    if _all_wnids(names) and not _all_wnids(ids):
        raise InputError(
            f"{path}: has the name before the wnid ({ids[0]!r:.60}, {names[0]!r}); write "
            '{"0": ["n01440764", "tench"]}'
        )
    return checked_classes(ids, names, path)


def _all_wnids(texts: Sequence[object]) -> bool:
    return all(isinstance(text, str) and re.fullmatch("n[0-9]{8}", text) for text in texts)


def _number(key: str) -> int:
    """A position in its only spelling; -1 for anything else, such as "00"."""
    return int(key) if re.fullmatch("0|[1-9][0-9]{0,8}", key) else -1


def _in_order(entries: dict[str, tuple[int, Any]], path: Path) -> list[Any]:
    """Sort the values of entries by position.

    Args:
        entries: Key -> position and value.
        path: The file, for messages.

    Raises:
        InputError: If the positions are not 0 to the number of entries, each once.
    """
    keys: dict[int, str] = {}
    for key, (position, _) in entries.items():
        if position not in range(len(entries)):
            raise InputError(
                f"{path}: the entry {key!r} has no position from 0 to {len(entries) - 1}, as "
                f"{len(entries)} classes need; number them from 0 without gaps"
            )
        if position in keys:
            raise InputError(
                f"{path}: {keys[position]!r} and {key!r} have the same position {position}; "
                "correct the list"
            )
        keys[position] = key
    return [entries[keys[position]][1] for position in range(len(entries))]


def checked_classes(ids: Sequence[object], names: Sequence[object], path: Path) -> ClassList:
    """Check the classes of a JSON file.

    Args:
        ids: In the order of the scores.
        names: One per id.
        path: The file, for messages.

    Raises:
        InputError: For anything but printable text, or for an id that occurs twice.
    """
    if not ids:
        raise InputError(f"{path}: lists no classes; give {FORMS}")
    for number, values in enumerate(zip(ids, names, strict=True)):
        where = f"{path}, position {number}"
        for value in values:
            if not isinstance(value, str):
                raise InputError(f"{where}: {value!r:.60} is not the text of a class; give {FORMS}")
            _check_printable(value, where)
            if not value or value != value.strip():
                raise InputError(
                    f"{where}: {value!r} is empty or has white space around it; correct the list"
                )
    listed = tuple(str(id) for id in ids)
    _refuse_repeats(listed, path, "entry")
    return ClassList(listed, tuple(str(name) for name in names))
