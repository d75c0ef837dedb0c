"""Small faults planted one by one in the code that numbers come from: do the tests notice?

    python benchmarks/mutation.py                      # every module
    python benchmarks/mutation.py bench/evidence.py    # one

Each mutant changes one comparison, operator, number, condition or return value in a copy of the
project and runs the tests of that module until the first failure. A process that has imported the
large libraries is forked for each. Written for this project because the general tools (cosmic-ray,
mutmut) start Python and PyTorch again for each of some ten mutants of every operator.
"""

import ast
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import click
import pytest

ROOT = Path(__file__).parent.parent
STATISTICS = ("test_evidence.py", "test_compare.py", "test_statistics_oracles.py")
TARGETS = {  # module: files of tests/ that should notice
    "vgg_deploy/scoring.py": ("test_scoring.py", "test_statistics_oracles.py"),
    "vgg_deploy/views.py": ("test_protocols.py",),
    "vgg_deploy/preprocess.py": ("test_preprocess.py",),
    "bench/binomial.py": STATISTICS,
    "bench/inversion.py": STATISTICS,
    "bench/paired_test.py": STATISTICS,
    "bench/evidence.py": STATISTICS,
    "bench/sequential.py": STATISTICS,
    "bench/calibration.py": ("test_bench.py", "test_statistics_oracles.py"),
    "bench/protocols.py": ("test_protocols.py", "test_paper.py"),
    "bench/compare.py": ("test_compare.py", "test_gate.py"),
    "bench/accuracy.py": ("test_protocols.py", "test_gate.py", "test_bench_ranks.py"),
    "bench/gate.py": ("test_gate.py",),
    "export/check.py": ("test_export_commands.py", "test_release.py"),
    "export/lint.py": ("test_precisions.py", "test_quantization.py"),
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.Not: ast.UAdd, ast.USub: ast.UAdd,
}  # fmt: skip
PYTEST = ("-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
NOT_CODE = {"annotation", "returns", "decorator_list", "type_params"}  # fields that hold no logic


class Mutant(NamedTuple):
    line: int
    change: str
    source: str  # of the whole module


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, one a place."""
    found = []
    for path, change in _places(ast.parse(source), ()):
        tree = ast.parse(source)
        node = tree
        for field, index in path:
            node = getattr(node, field) if index is None else getattr(node, field)[index]
        before = ast.unparse(node)
        _apply(node, change)
        after = ast.unparse(ast.fix_missing_locations(node))
        found.append(Mutant(node.lineno, f"{before} -> {after}", ast.unparse(tree)))
    return found


def _places(node: ast.AST, path: tuple) -> Iterator[tuple[tuple, object]]:
    """Paths to nodes that can be changed, and how. Args: path, (field, index) from the root."""
    if isinstance(node, ast.Compare):
        yield from ((path, i) for i, op in enumerate(node.ops) if type(op) in SWAPS)
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp) and type(node.op) in SWAPS:
        yield path, None
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield path, None
    elif isinstance(node, ast.Return) and node.value is not None:
        yield path, None
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield path, None
    for field, value in ast.iter_fields(node):
        if field in NOT_CODE:
            continue
        children = value if isinstance(value, list) else [value]
        for i, child in enumerate(children):
            if isinstance(child, ast.AST) and not _is_union_of_types(node, child):
                yield from _places(child, (*path, (field, i if isinstance(value, list) else None)))


def _is_union_of_types(parent: ast.AST, child: ast.AST) -> bool:
    return isinstance(parent, ast.Assign) and isinstance(child, ast.Subscript)


def _apply(node: ast.AST, change: object) -> None:
    if isinstance(node, ast.Compare):
        node.ops[change] = SWAPS[type(node.ops[change])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    else:
        node.test = ast.UnaryOp(ast.Not(), deepcopy(node.test))


def run_tests(folder: Path, tests: tuple[str, ...], limit_s: float, log: Path) -> str:
    """ "passed", "failed" or "too slow", by a forked process in a copy of the project."""
    child = os.fork()
    if child == 0:
        try:
            _become_a_test_run(folder, log)
            os._exit(int(pytest.main([*PYTEST, *(f"tests/{name}" for name in tests)])))
        finally:  # never back into the parent's code
            traceback.print_exc()
            os._exit(1)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "failed" if status else "passed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


def _become_a_test_run(folder: Path, log: Path) -> None:
    os.setsid()  # so that a time limit ends its children too
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = sys.path[0] = str(folder)


def prepare() -> None:
    """Import what every child needs, but nothing of the project."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    import hypothesis
    import onnx  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import statsmodels.api  # noqa: F401
    import torchvision  # noqa: F401

    # a failing case need not be made small, and nothing is to be remembered of it
    hypothesis.settings.register_profile("mutation", phases=[hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutation")


@click.command(context_settings={"show_default": True})
@click.argument("modules", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--most", default=1000, help="Mutants of a module; chosen at random beyond that.")
@click.option("--minutes", default=600.0, help="Start no mutant of a module after this time on it.")
@click.option("--out", default="benchmarks/results/mutation.md", type=click.Path(path_type=Path))
def main(modules: tuple[str, ...], most: int, minutes: float, out: Path) -> None:
    """Plant faults in MODULES (all, if none is named) and count those that the tests notice."""
    prepare()
    table, survivors = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "project", Path(scratch) / "log"
        leave = shutil.ignore_patterns(".git", "__pycache__", ".venv", "results", ".hypothesis")
        shutil.copytree(ROOT, folder, ignore=leave)
        for module in modules or TARGETS:
            source = (ROOT / module).read_text()
            begun = time.monotonic()
            if run_tests(folder, TARGETS[module], 900, log) != "passed":
                raise click.ClickException(f"{module}: its tests fail unchanged\n{log.read_text()}")
            limit_s = 15 + 3 * (time.monotonic() - begun)
            every = mutants(source)
            chosen = random.Random(0).sample(every, min(most, len(every)))
            counts: Counter[str] = Counter()
            for mutant in sorted(chosen):
                if time.monotonic() - begun > 60 * minutes:
                    break
                (folder / module).write_text(mutant.source)
                result = run_tests(folder, TARGETS[module], limit_s, log)
                counts[result] += 1
                if result == "passed":
                    survivors.append(f"- `{module}:{mutant.line}` `{mutant.change}`")
                    click.echo(survivors[-1], err=True)
            (folder / module).write_text(source)
            run = counts.total()
            killed = run - counts["passed"]
            cells = (module, len(every), run, counts["failed"], counts["too slow"])
            table.append(f"| {' | '.join(map(str, cells))} | {100 * killed / run:.0f} |")
            click.echo(table[-1], err=True)
    head = "| module | places | mutants run | failed a test | too slow | noticed % |"
    lines = ["# Planted faults that the tests notice", "", f"`{' '.join(sys.argv)}`", ""]
    lines += [head, "| --- " + "| ---: " * 5 + "|", *table, "", "Not noticed:", "", *survivors]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
