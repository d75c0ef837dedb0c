"""Names that no file can have, given to the commands: one sentence and exit code 2."""

import pytest
from click.testing import CliRunner

from tests.test_numeric_options import COMMANDS

LONG = ("x" * 300, "d/" * 3000 + "y")
LINES = (
    ("train", "--resume"),
    ("pack", "--index"),
    ("bench", "--data"),
    ("bench", "--out"),
    ("bench", ""),
    ("export", ""),
    ("predict", ""),
    ("plot", ""),
)


@pytest.mark.parametrize("name", LONG, ids=["component", "path"])
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_name_that_is_too_long(line, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, option = line
    ended = CliRunner().invoke(COMMANDS[command], [option, name] if option else [name])
    assert ended.exit_code == 2 and isinstance(ended.exception, SystemExit)
    errors = [text for text in ended.output.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
