"""Plants small faults one by one in the code that computes numbers, and counts noticed ones.

    python benchmarks/mutation.py                      # every module
    python benchmarks/mutation.py vgg_deploy/statistics/evidence.py    # one

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
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

ROOT = Path(__file__).parent.parent


def _named(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in tests)


ORACLES = "bench/statistics/test_statistics_oracles.py"
GEOMETRY = _named(
    "bench/accuracy/test_protocols.py",
    "offsets_in_closed_form",
    "views_lie_inside_and_reach_the_edges",
    "crops_are_torchvisions",
    "q_follows_s_as_in_section_4",
    "weights_sum_to_one_and_methods_count_alike",
)
BINOMIAL = _named(
    ORACLES, "binomial_tails_are_those_of_scipy", "bounds_of_a_share_are_clopper_and_pearsons"
)
BOUNDS = _named(ORACLES, "the_paired_bounds_are_the_test_inverted")
TARGETS = {  # module: tests that should notice, the fastest first
    "vgg_deploy/scoring.py": (
        "vgg_deploy/test_scoring.py",
        *_named(ORACLES, "wilson_is_that_of_statsmodels", "ranks_are_those_of_scipy"),
    ),
    "vgg_deploy/images/crops.py": ("vgg_deploy/images/test_crops.py", *GEOMETRY),
    "vgg_deploy/images/decode.py": ("vgg_deploy/images/test_decode.py",),
    "vgg_deploy/statistics/binomial.py": (*BINOMIAL, "bench/statistics/test_evidence.py"),
    "vgg_deploy/statistics/inversion.py": ("bench/statistics/test_evidence.py", *BINOMIAL, *BOUNDS),
    "vgg_deploy/statistics/paired_test.py": (
        "bench/statistics/test_evidence.py",
        *_named(
            ORACLES,
            "the_range_of_p01_is_clopper_and_pearsons",
            "the_worst_p01_is_found_where_there_are_several_peaks",
            "the_statistic_is_tangos",
            "with_many_differing_images_the_bounds_are_the_normal_ones",
            "the_paired_test_is_the_enumeration_of_all_tables",
        ),
        *BOUNDS,
    ),
    "vgg_deploy/statistics/evidence.py": (
        "bench/statistics/test_evidence.py",
        *_named(
            ORACLES,
            "failing_rows_are_those_whose_adjusted_p_is_small",
            "images_to_decide_are_those_of_statsmodels",
            "evidence_of_a_share_is_the_binomial_test",
        ),
        *BOUNDS,
    ),
    "bench/statistics/sequential.py": (
        "bench/statistics/test_evidence.py",
        *_named(
            ORACLES,
            "the_expected_wealth_is_what_the_bettors_began_with",
            "the_expected_wealth_of_bets_on_a_share_is_what_they_began_with",
            "anytime_evidence_is_ordered_and_agrees_with_its_bounds",
            "looking_after_every_image_is_wrong_at_most_once_in_20",
        ),
    ),
    "bench/accuracy/reliability.py": (
        *_named(ORACLES, "calibration_error_is_a_loop_over_bins"),
        *_named(
            "bench/accuracy/test_reliability.py",
            "calibration_by_hand",
            "calibrated_answers_have_no_error",
        ),
    ),
    "bench/accuracy/protocols.py": ("vgg_deploy/images/test_crops.py", *GEOMETRY),
    "bench/accuracy/compare.py": (
        "bench/gate/test_verdict.py",
        "bench/accuracy/test_compare.py",
        "bench/gate/test_gate.py",
    ),
    "bench/accuracy/accuracy_rows.py": (
        "bench/gate/test_verdict.py",
        "bench/accuracy/test_reliability.py",
        "bench/gate/test_gate.py",
        "bench/accuracy/test_protocols.py",
    ),
    "bench/gate/verdict.py": ("bench/gate/test_verdict.py", "bench/gate/test_gate.py"),
    "export/verify/parity.py": ("export/test_release.py", "export/test_export_commands.py"),
    "export/verify/lint.py": (
        "vgg_deploy/runtimes/test_integer_kernels.py",
        "export/verify/test_precisions.py",
        "export/quantize/test_quantization.py",
    ),
}
SWAPS: dict[type, Any] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
PYTEST = ("-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
NOT_CODE = {"annotation", "returns", "decorator_list", "type_params"}  # fields that hold no logic


class Mutant(NamedTuple):
    line: int
    change: str
    source: str  # of the whole module


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, one per node that can change."""
    found = []
    for position in range(_mutable_nodes(ast.parse(source))):
        tree = ast.parse(source)
        node = list(_nodes(tree))[position]
        before = ast.unparse(node)
        _mutate(node)
        after = ast.unparse(ast.fix_missing_locations(node))
        line = getattr(node, "lineno", 0)
        change = f"{before.splitlines()[0]} -> {after.splitlines()[0]}"
        found.append(Mutant(line, change, ast.unparse(tree)))
    return found


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that can be changed, in a fixed order."""
    if _can_change(node):
        yield node
    for field, value in ast.iter_fields(node):
        if field not in NOT_CODE:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _nodes(child)


def _mutable_nodes(tree: ast.AST) -> int:
    return sum(1 for _ in _nodes(tree))


def _can_change(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return type(node.ops[-1]) in SWAPS
    if isinstance(node, ast.BinOp | ast.BoolOp):
        return type(node.op) in SWAPS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not | ast.USub)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.Return):
        return node.value is not None
    return isinstance(node, ast.If | ast.IfExp | ast.While)


def _mutate(node: ast.AST) -> None:
    """Change one node in place."""
    if isinstance(node, ast.Compare):
        node.ops[-1] = SWAPS[type(node.ops[-1])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        node.operand = ast.UnaryOp(type(node.op)(), node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value += 1
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)


def run_tests(folder: Path, tests: tuple[str, ...], limit_s: float, log: Path) -> str:
    """Run tests in a forked process in a copy of the project.

    Args:
        folder: The copy.
        tests: Files or functions under tests/.
        limit_s: Seconds before the process is killed.
        log: File of its output.

    Returns:
        "passed", "failed" or "too slow".
    """
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

    # failing cases need not be shrunk or stored
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
            start = time.monotonic()
            if run_tests(folder, TARGETS[module], 900, log) != "passed":
                raise click.ClickException(f"{module}: its tests fail unchanged\n{log.read_text()}")
            limit_s = 15 + 3 * (time.monotonic() - start)
            start = time.monotonic()
            every = mutants(source)
            chosen = random.Random(0).sample(every, min(most, len(every)))
            counts: Counter[str] = Counter()
            for mutant in chosen:
                if time.monotonic() - start > 60 * minutes:
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
            numbers = (len(every), run, counts["failed"], counts["too slow"])
            table.append([module, *map(str, numbers), f"{100 * killed / run:.0f}"])
            click.echo(" | ".join(table[-1]), err=True)
    from result_tables import markdown_table  # imports the project, so only after all forks

    heads = ["module", "mutants", "mutants run", "failed a test", "too slow", "noticed %"]
    lines = ["# Planted faults that the tests notice", "", f"`{' '.join(sys.argv)}`", ""]
    lines += [markdown_table(heads, table), "Not noticed:", "", *sorted(survivors)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
