"""The shape of the house."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vgg_deploy", "train", "export", "bench")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(p): p for package in PACKAGES for p in (ROOT / package).glob("**/*.py")}
FOLDERS = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def imports_of(name: str) -> set[str]:
    """Our modules that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found & set(MODULES)


IMPORTS = {name: imports_of(name) for name in MODULES}


def folder_of(name: str) -> str:
    return name if name in FOLDERS else name.rpartition(".")[0]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way from a node back to itself, or nothing."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if found := walk(other, [*way, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def test_commands_import_the_core_and_never_each_other():
    for name, others in IMPORTS.items():
        package = name.partition(".")[0]
        allowed = {package, "vgg_deploy"}
        assert {other.partition(".")[0] for other in others} <= allowed, name


def test_no_circle_of_modules():
    assert circle(IMPORTS) == []


def test_no_circle_of_folders():
    graph: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for name, others in IMPORTS.items():
        graph[folder_of(name)] |= {folder_of(other) for other in others} - {folder_of(name)}
    assert circle(graph) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


OF_NVIDIA_SMI = ("--query-gpu=", "--format=csv,noheader")  # options of another program


def test_the_core_names_no_option():
    """An option belongs to a command; the core says what is wrong and where."""
    named = [
        f"{name}: {node.value!r}"
        for name, path in MODULES.items()
        if name.partition(".")[0] == "vgg_deploy"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.search(r"(?<![\w-])--[a-z]", node.value) and node.value not in OF_NVIDIA_SMI
    ]
    assert named == []


COMMANDS = (
    "train.__main__",
    "train.transfer.__main__",
    "export.cli",
    "bench.cli",
    "bench.history.cli",
    "bench.predict.cli",
    "bench.features.cli",
    "bench.doctor.cli",
)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_needs_no_heavy_import(module):
    heavy = ("torch", "torchvision", "onnx", "onnxruntime", "pandas", "numpy", "rich", "sklearn")
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [], done.stderr
