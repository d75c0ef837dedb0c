"""Names that are shown or kept: nothing in them acts, and CSV cells give them back."""

import csv
import io
import json
import os
import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vgg_deploy.errors import MOST_CHARACTERS, InputError
from vgg_deploy.printable import csv_text, printable

NAMES = st.text(st.characters(codec=None), max_size=20)


@settings(max_examples=300, deadline=None)
@given(NAMES)
@example("\x1b]0;title\x07")
@example("a\n::error::b")
@example("  ::set-output name=x::y")
@example("\n::error::x")
@example(os.fsdecode(b"caf\xe9"))
@example("x##[error]y")
@example("###[[")
def test_a_shown_name_is_one_line_without_commands(name):
    """Oracles: Unicode's categories, str.splitlines, and GitHub's rules for commands."""
    shown = printable(name)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in shown)
    assert len(shown.splitlines()) <= 1
    assert not shown.strip().startswith("::") and "##[" not in shown
    assert shown.encode().decode() == shown
    assert printable(shown) == shown and len(shown) == len(name)


@settings(max_examples=300, deadline=None)
@given(NAMES)
@example("=1+1")
@example(" =1+1")
@example("\t=1")
@example("\r\n@x")
@example('"=1"')
@example("-3")
@example(os.fsdecode(b"=caf\xe9"))
def test_a_csv_cell_is_no_formula_and_gives_the_name_back(name):
    """Oracles: csv and pandas read the file, json reads the cell."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow([csv_text(name), "x"])
    text = file.getvalue()
    assert len(text.splitlines()) == 1
    (row,) = csv.reader([text])
    cell = row[0]
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (json.loads(cell) if cell.startswith('"') else cell) == name
    if name.strip():
        frame = pd.read_csv(io.StringIO(text), header=None, keep_default_na=False, dtype=str)
        assert frame.iloc[0, 0] == cell


@pytest.mark.parametrize("name", ["disc", "n01440764", "a b", "小さな犬", "dog.jpg", "a=b", "x-1"])
def test_usual_names_stay_as_they_are(name):
    assert printable(name) == csv_text(name) == name


def test_a_sentence_is_one_line_of_a_bounded_length_whatever_it_names():
    error = InputError("a\nb\x1c::error::", "x\u2028y")
    assert len(error.message.splitlines()) == 1 and "\n" in error.what
    long = InputError("begin " + "x" * 10**6, "end")
    assert len(str(long)) <= MOST_CHARACTERS + 10
    assert str(long).startswith("begin x") and str(long).endswith("x; end")
