"""Strategies for damage: of bytes, of JSON values, of text, of what lies under a name.

A mutation is drawn by hypothesis and then applied to a valid file. Positions are drawn from 0 to 1,
so that one strategy serves files of all sizes.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

Seal = Callable[[bytes], bytes]  # writes the checksums of a format anew
HUGE = 2**40  # bytes of a sparse file
DEEP = 100_000  # lists inside each other
NUMBERS = (0, 1, -1, 2, 255, 2**31, 2**63, -(2**63), 10**12, 10**30, 0.5, -0.0, 1e308, 1e-320)
TEXTS = ("", "x", "\0", "a\nb", "../x", "/dev/zero", "\u202e", "\ud800", "x" * 300, "9" * 6000)
VALUES = (*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [None], {"": 0}, [64], "NaN", "D")
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 6000, "[" * DEEP, "", "{", '{"a":1,"a":2}')
TOKENS = (*TEXTS[:8], "nan", "inf", "-1", "0", "1", "1.5", "1e400", "999999999", "n01440764", '"')
TOKENS_OF_BYTES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff" * 8,
    b"\x7f\xff",
    b"\x80",
    b"\n",
    b"PK",
)


@dataclass(frozen=True)
class Edit:
    """One change of bytes."""

    kind: str  # flip, cut, remove, insert, overwrite, repeat
    place: float  # 0 to 1
    size: int
    value: bytes

    def apply(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        match self.kind:
            case "flip" if data:
                at = min(at, len(data) - 1)
                changed = bytes([data[at] ^ 1 << self.size % 8])
                return data[:at] + changed + data[at + 1 :]
            case "cut":
                return data[:at]
            case "remove":
                return data[:at] + data[at + self.size :]
            case "insert":
                return data[:at] + self.value + data[at:]
            case "overwrite":
                return data[:at] + self.value + data[at + len(self.value) :]
            case "repeat":
                return data[:at] + data[max(0, at - self.size) :]
        return data


@dataclass(frozen=True)
class Bytes:
    """Changes of a file's bytes; with a seal its checksums are made to fit."""

    edits: tuple[Edit, ...]
    sealed: bool
    kind = "bytes"

    def apply(self, path: Path, seal: Seal | None) -> None:
        data = path.read_bytes()
        for edit in self.edits:
            data = edit.apply(data)
        path.write_bytes(seal(data) if self.sealed and seal else data)


@dataclass(frozen=True)
class Json:
    """Another value somewhere in a JSON document, or raw text in its place."""

    steps: tuple[int, ...]
    value: Any
    action: str  # replace, remove, add, raw
    raw: str
    sealed: bool = True  # its checksum is made to fit
    kind = "json"

    def apply(self, path: Path, seal: Seal | None) -> None:
        text = self.changed(path.read_text(encoding="utf-8"))
        data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(seal(data) if self.sealed and seal else data)

    def changed(self, text: str) -> str:
        """Change a document; the result may be no JSON."""
        mark = "the place of the raw text"
        document = [json.loads(text)]
        _change(document, self.steps, self.action, mark if self.action == "raw" else self.value)
        changed = document[0] if document else None
        return json.dumps(changed).replace(f'"{mark}"', self.raw)


@dataclass(frozen=True)
class Torch:
    """Another value somewhere in a torch file, which is saved anew with sound checksums."""

    steps: tuple[int, ...]
    value: Any
    action: str
    spec: Json | None  # if given, the text of the net's description is changed instead
    kind = "torch"

    def apply(self, path: Path, seal: Seal | None) -> None:
        content = [torch.load(path, weights_only=True)]
        if self.spec is not None and "spec" in content[0]:
            content[0]["spec"] = self.spec.changed(content[0]["spec"])
        else:
            _change(content, self.steps, self.action, self.value)
        torch.save(content[0] if content else None, path)


@dataclass(frozen=True)
class Text:
    """Another word in a text."""

    place: float
    word: str
    action: str
    kind = "text"

    def apply(self, path: Path, seal: Seal | None) -> None:
        text = path.read_text(encoding="utf-8")
        separators = [i for i, character in enumerate(text) if character in ",\n \t"] or [0]
        number = min(int(self.place * len(separators)), len(separators) - 1)
        begin = separators[number]
        end = separators[number + 1] if number + 1 < len(separators) else len(text)
        kept = text[begin:end] if self.action == "add" else text[begin : begin + 1]
        new = text[:begin] + kept + self.word + text[end:]
        path.write_text(new, encoding="utf-8", errors="surrogatepass")


@dataclass(frozen=True)
class Other:
    """Something that is no regular file, or a file beyond all bounds, under the file's name."""

    what: str
    kind = "other"

    def apply(self, path: Path, seal: Seal | None) -> None:
        path.unlink()
        match self.what:
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "loop":
                path.symlink_to(path.name)
            case "device":
                path.symlink_to("/dev/zero")
            case "nowhere":
                path.symlink_to("nowhere")
            case "socket":
                listening = socket.socket(socket.AF_UNIX)
                if len(str(path)) < 100:
                    listening.bind(str(path))
                listening.close()
            case "huge":
                with open(path, "wb") as file:
                    file.truncate(HUGE)
            case "empty":
                path.touch()


Mutation = Bytes | Json | Torch | Text | Other
OTHERS = ("pipe", "folder", "loop", "device", "nowhere", "socket", "huge", "empty", "missing")


def _change(document: list[Any], steps: tuple[int, ...], action: str, value: Any) -> None:
    """Walk into a document by numbers, and change what is there."""
    parent, key = document, 0
    here: Any = document[0]
    for step in steps:
        if isinstance(here, dict) and here:
            parent, key = here, list(here)[step % len(here)]
        elif isinstance(here, list) and here:
            parent, key = here, step % len(here)
        else:
            break
        here = parent[key]
    if action == "remove":
        del parent[key]
    elif action == "add" and isinstance(here, dict):
        here[str(value)[:20]] = value
    elif action == "add" and isinstance(here, list):
        here.append(value)
    else:
        parent[key] = value


places = st.one_of(st.floats(0, 1), st.floats(0, 0.05), st.floats(0.95, 1))
edits = st.builds(
    Edit,
    st.sampled_from(("flip", "flip", "cut", "remove", "insert", "overwrite", "repeat")),
    places,
    st.integers(1, 600),
    st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(TOKENS_OF_BYTES)),
)
of_bytes = st.builds(Bytes, st.lists(edits, min_size=1, max_size=3).map(tuple), st.booleans())
values = st.one_of(
    st.sampled_from(VALUES), st.integers(), st.floats(), st.text(max_size=8), st.just({"a": {}})
)
actions = st.sampled_from(("replace", "replace", "replace", "remove", "add", "raw"))
steps = st.lists(st.integers(0, 40), max_size=5).map(tuple)
of_json = st.builds(Json, steps, values, actions, st.sampled_from(RAW), st.booleans())
of_torch = st.builds(
    Torch,
    steps,
    st.one_of(
        values,
        st.sampled_from(
            (
                torch.tensor(float("nan")),
                torch.zeros(2, 3),
                torch.zeros(3, dtype=torch.int64),
                torch.eye(2).to_sparse(),
                torch.zeros(0),
                torch.zeros(1, dtype=torch.float16),
            )
        ),
    ),
    st.sampled_from(("replace", "replace", "remove", "add")),
    st.one_of(st.none(), of_json),
)
of_text = st.builds(Text, places, st.sampled_from(TOKENS), st.sampled_from(("replace", "add")))
others = st.builds(Other, st.sampled_from(OTHERS))


def mutations(kind: str) -> st.SearchStrategy[Mutation]:
    """Mutations of one file.

    Args:
        kind: "bytes", "json", "torch" or "text": what the file holds.
    """
    typed = {"json": of_json, "torch": of_torch, "text": of_text, "bytes": of_bytes}[kind]
    return st.one_of(of_bytes, typed, typed, typed, others)
