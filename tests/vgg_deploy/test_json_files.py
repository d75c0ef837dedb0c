"""JSON of others is read whole or refused with one sentence."""

import pytest

from vgg_deploy import json_files
from vgg_deploy.errors import InputError
from vgg_deploy.json_files import entry, parse_json, read_json, read_json_object


def refusal(function, *args) -> str:
    with pytest.raises(InputError) as refused:
        function(*args)
    return refused.value.message


def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "config.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text('{"name": "Hündin", "mean": [1, 2.5, null]}', encoding=encoding)
        assert read_json(path) == {"name": "Hündin", "mean": [1, 2.5, None]}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "line 1: is not JSON"),
        ('{"a": 1,\n "b" 2}', "line 2: is not JSON"),
        ('{"x": {"a": 1, "a": 2}}', "has the key 'a' twice"),
        ("[1, NaN]", "contains NaN"),
        ("[-Infinity]", "contains -Infinity"),
        ("[1e999]", "contains 1e999"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("9" * 10_000, "too long a number"),
    ],
)
def test_what_is_no_sound_json_is_refused_with_the_reason_and_the_hint(text, reason):
    message = refusal(parse_json, text, "config.json", "write it again")
    assert message.startswith("config.json") and reason in message
    assert message.endswith("; write it again")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.json", tmp_path, binary):
        assert f"{path}: cannot be read as text" in refusal(read_json, path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "LARGEST", 2**20)
    path = tmp_path / "large.json"
    path.write_text("[" + " " * 2**20 + "]")
    assert "more than the 1 MiB" in refusal(read_json, path)


def test_an_object_is_told_from_other_values(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[]")
    assert "is not a JSON object" in refusal(read_json_object, path)
    path.write_text('{"a": 1}')
    assert read_json_object(path) == {"a": 1}


def test_an_entry_has_the_type_that_is_asked_for():
    entries = {"epochs": 74, "lr": 1, "name": "D", "resume": True}
    assert entry(entries, "epochs", int, "x") == 74
    assert isinstance(entry(entries, "lr", float, "x"), float)
    assert entry(entries, "resume", bool, "x") is True
    assert "x: has no 'side'" in refusal(entry, entries, "side", int, "x")
    assert "x: name is 'D', expected: integer" in refusal(entry, entries, "name", int, "x")
    for kind in (int, float):
        assert "resume is True" in refusal(entry, entries, "resume", kind, "x")
