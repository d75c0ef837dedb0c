"""Shell completion, as docs/install.md installs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from bench.cli import main as vgg_bench
from bench.doctor.cli import main as vgg_doctor
from export.cli import main as vgg_export
from train.__main__ import main as vgg_train

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "vgg-train": vgg_train,
    "vgg-export": vgg_export,
    "vgg-bench": vgg_bench,
    "vgg-doctor": vgg_doctor,
}
CASES = [
    ("vgg-train", "--arch A", ["A", "A-LRN"]),
    ("vgg-train", "--chain p", ["paper"]),
    ("vgg-export", "--calibration-m", ["--calibration-method"]),
    ("vgg-export", "--calibration-method p", ["percentile"]),
    ("vgg-bench", "--device c", ["cpu", "cuda"]),
    ("vgg-bench", "history --o", ["--out"]),
    ("vgg-doctor", "onnx", ["onnxruntime", "onnxruntime-tensorrt", "onnxruntime-rtx"]),
]


def variable(command: str) -> str:
    return f"_{command.replace('-', '_').upper()}_COMPLETE"


@pytest.mark.parametrize(("command", "typed", "expected"), CASES)
def test_completions(monkeypatch, command, typed, expected):
    words = [command, *typed.split()]
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    completion = get_completion_class("bash")(COMMANDS[command], {}, command, variable(command))
    found = [line.split(",")[1] for line in completion.complete().splitlines()]
    assert found == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("command", COMMANDS)
def test_sources(command, shell):
    """The script that a shell loads calls the command back by its own name."""
    completion = get_completion_class(shell)(COMMANDS[command], {}, command, variable(command))
    if shell == "bash":
        completion._check_version = lambda: None  # of the bash that is installed here
    text = completion.source()
    assert f"{variable(command)}={shell}_complete" in text and command in text


def test_the_page_names_every_command():
    page = (ROOT / "docs" / "install.md").read_text()
    for command in COMMANDS:
        assert variable(command) in page
    assert set(re.findall(r"=(\w+)_source", page)) == {"bash", "zsh", "fish"}


@pytest.mark.slow
def test_in_bash(tmp_path):
    """The line of the page, in a real bash: its completion function is defined and works."""
    command = tmp_path / "vgg-doctor"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from bench.doctor.cli import main\nmain(prog_name='vgg-doctor')\n"
    )
    command.chmod(0o755)
    script = (
        'eval "$(_VGG_DOCTOR_COMPLETE=bash_source vgg-doctor)"\n'
        "COMP_WORDS=(vgg-doctor --de); COMP_CWORD=1\n"
        "_vgg_doctor_completion vgg-doctor\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "--device", done.stderr
