"""The shape of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vgg_deploy", "train", "export", "bench")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    files = list((ROOT / package).glob("**/*.py"))
    assert files
    allowed = {package, "vgg_deploy"}
    for path in files:
        assert imported(path) & set(PACKAGES) <= allowed, path


@pytest.mark.parametrize("module", ["train.__main__", "export.cli", "bench.cli"])
def test_help_needs_no_heavy_import(module):
    code = f"import sys, {module}; print(*sorted(m for m in sys.modules if m in ('torch', 'torchvision', 'onnx', 'onnxruntime', 'pandas', 'numpy', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [], done.stderr
