"""The code blocks of the documentation, and the commands in them."""

import importlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent.parent
LANGUAGES = ("bash", "python", "yaml", "json", "text")
BLOCK = re.compile(
    r"(?:<!-- (?P<note>(?:run|not run)[^>]*?) -->\n+)?^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
# What is not ours, and is not run either: it installs, serves, or belongs to the shell
OTHERS = (
    "cd",
    "git",
    "ls",
    "make",
    "pip",
    "pre-commit",
    "python -m venv",
    "source",
    "tritonserver",
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, its language, and what a comment above says of it."""

    page: Path
    line: int
    language: str
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str | None = None) -> list[Block]:
    """All blocks of a language, or of all."""
    found = []
    for page in pages():
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("text")) + 1
            note = match["note"] or ""
            found.append(Block(page, line, match["language"], note, match["text"]))
    return [block for block in found if language in (None, block.language)]


def lines_of(text: str) -> list[str]:
    """Commands of a block; lines that end with a backslash go on."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.split("#")[0].strip()]


def parse(line: str) -> str | None:
    """Parse a command by its own parser; nothing is run.

    Returns:
        The name of the command that is ours, or None for another's.

    Raises:
        click.ClickException: For an unknown option or a value of the wrong type.
        AssertionError: For a program that nothing here knows.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if any(" ".join(words).startswith(f"{other} ") for other in OTHERS):
        return None
    if words[0] == "python" and words[1] == "-m":
        module, arguments = words[2], words[3:]
    elif words[0] in commands():
        module, arguments = commands()[words[0]], words[1:]
    elif words[0] == "python" and words[1].startswith(("docs/", "benchmarks/")):
        assert (ROOT / words[1]).is_file(), f"{words[1]} does not exist"
        return None
    else:
        raise AssertionError(f"{words[0]} is no command that this test knows")
    command = command_of(module)
    command.make_context(command.name or module, list(arguments)).close()
    return module


def commands() -> dict[str, str]:
    """The installed commands of pyproject.toml, and the module of each."""
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name: target.partition(":")[0] for name, target in scripts.items()}


def command_of(module: str) -> click.Command:
    """The click command that `python -m module` runs."""
    if (ROOT / module.replace(".", "/") / "__main__.py").exists():
        module += ".__main__"
    main = importlib.import_module(module).main
    assert isinstance(main, click.Command), module
    return main
