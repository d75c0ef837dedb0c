"""The list of what is opened names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
ROW = re.compile(r"\| (?P<kind>.+) \| `(?P<file>[\w/]+\.py)::(?P<test>\w+)` \|")


def test_every_kind_has_its_test():
    rows = [
        line
        for line in (TESTS / "opened.md").read_text().splitlines()
        if line.startswith("|") and not line.startswith(("| kind", "| ---"))
    ]
    assert len(rows) > 30
    for row in rows:
        found = ROW.fullmatch(row)
        assert found, f"{row}: name one test as `file.py::test`"
        tree = ast.parse((TESTS / found["file"]).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert found["test"] in names, f"{found['kind']}: {found['file']} has no {found['test']}"
