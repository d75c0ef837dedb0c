"""A JSON document with a digest of its content. Oracle: hashlib over the bytes of json.dumps."""

import hashlib
import json

import pytest

from vgg_deploy.errors import InputError
from vgg_deploy.sealed_json import KEY, check_seal, read_sealed, sealed

DOCUMENT = {"lr": 0.01, "classes": ["a", "b"], "name": "caf\u00e9", "lost": "\udce9", "n": None}


def test_the_digest_is_that_of_the_sorted_content():
    text = json.dumps(DOCUMENT, sort_keys=True)
    assert sealed(DOCUMENT) == {**DOCUMENT, KEY: hashlib.sha256(text.encode()).hexdigest()}
    assert sealed(sealed(DOCUMENT)) == sealed(DOCUMENT)


def test_what_does_not_change_the_content_passes(tmp_path):
    path = tmp_path / "a.json"
    whole = sealed({**DOCUMENT, "pair": (1, 2)})
    backwards = dict(reversed(whole.items()))
    for text in (json.dumps(whole), json.dumps(backwards, indent=3), "\ufeff" + json.dumps(whole)):
        path.write_text(text, encoding="utf-8")
        assert read_sealed(path, "restore it")["pair"] == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [{"lr": 0.1}, {"lr": "0.01"}, {"classes": ["b", "a"]}, {"n": 0}, {"more": 1}, {KEY: "0" * 64}],
)
def test_every_change_of_the_content_is_refused(changes):
    with pytest.raises(InputError, match="a.json: its content is not what was written.*restore"):
        check_seal({**sealed(DOCUMENT), **changes}, "a.json", "restore it")


def test_a_document_of_an_earlier_version_passes():
    check_seal(DOCUMENT, "a.json", "restore it")
