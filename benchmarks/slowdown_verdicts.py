"""Measures how often --max-slowdown is wrong: files called in turn whose times are known to differ.

    python benchmarks/slowdown_verdicts.py

An ONNX file of a thin net beside itself, whose true slowdown is zero, and beside a net with more
work. Each comparison is that of `vgg-bench --against`: 30 rounds in turn, judged by the same code.
At the limit 0 a file beside itself may fail in at most 5 % of comparisons, and pass in at most 5 %;
at a limit of 10 % it should pass, and the larger net should fail.
"""

from collections import Counter
from pathlib import Path

import click
import pandas as pd
from models import exports, random_weights
from result_tables import environment_block, markdown_table, write_csv

from bench.models.model import Model, ModelOptions, open_models
from bench.speed.turns import call_in_turn
from bench.statistics.sign_test import median_evidence
from export.settings.export_options import ExportOptions
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, Preprocessing
from vgg_deploy.statistics.evidence import LEVEL, Verdict, verdicts

SIDE, BATCH = 224, 1
LIMITS = (0.0, 10.0)  # per cent
CLASSES = tuple(str(i) for i in range(10))


def thin(folder: Path, width: float) -> Path:
    """An ONNX file of A, so many times as wide."""
    spec = NetSpec(
        "A",
        CLASSES,
        crop=SIDE,
        width=width,
        preprocessing=Preprocessing(mean=(0.0, 0.0, 0.0)),
        train_side=(256, 256),
    )
    (path,) = exports(random_weights(spec, folder), folder, ExportOptions(("fp32",)))
    return path


def count(other: Model, model: Model, repeats: int) -> dict[float, Counter[Verdict]]:
    """Verdicts of so many comparisons, by limit."""
    found: dict[float, Counter[Verdict]] = {limit: Counter() for limit in LIMITS}
    for _ in range(repeats):
        (turns,) = call_in_turn(other, model, "the other file", [(SIDE, BATCH)])
        for limit in LIMITS:
            found[limit][verdicts([median_evidence(turns.slowdowns, limit)])[0]] += 1
    return found


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=200, help="Comparisons of each pair; one takes about 5 s.")
@click.option("--threads", default=available_cores(), help="Of the CPU.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(repeats: int, threads: int, out: Path) -> None:
    """Compare each pair `repeats` times, and write slowdown_verdicts.csv and .md."""
    files = {width: thin(out / "nets" / f"{width:g}", width) for width in (1 / 8, 1 / 4)}
    options = ModelOptions(threads=threads)
    (thin_net,), (same,), (wide,) = (
        open_models([files[width]], options) for width in (1 / 8, 1 / 8, 1 / 4)
    )
    rows = []
    for name, model in (("the same file", same), ("twice the width", wide)):
        for limit, counted in count(thin_net, model, repeats).items():
            shares = {f"{v.value}_pct": 100 * counted[v] / repeats for v in Verdict}
            rows.append({"file": name, "limit_pct": limit, "comparisons": repeats, **shares})
    table = pd.DataFrame(rows)
    write_csv(table, out / "slowdown_verdicts.csv")
    heads = ["file", "limit %", "comparisons", "pass %", "fail %", "undecided %"]
    lines = [[str(row[0]), *(f"{value:g}" for value in row[1:])] for row in table.to_numpy()]
    text = (
        f"# Verdicts of --max-slowdown\n\nA of a thin width, {SIDE} x {SIDE}, batch {BATCH}. A "
        f"file beside itself may fail the limit 0 in at most {100 * LEVEL:g} % of comparisons, and "
        f"pass it in at most {100 * LEVEL:g} %.\n\n{markdown_table(heads, lines)}\n"
        f"{environment_block(threads)}"
    )
    (out / "slowdown_verdicts.md").write_text(text)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
