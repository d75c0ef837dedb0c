"""Runs the evaluations in turn, each in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from peer_comparison.evaluations import Evaluation
from peer_comparison.prepare import Settings

PEERS = Path(__file__).parents[1] / "peers"


def run_rounds(
    selected: dict[str, tuple[Evaluation, ...]], settings: Settings, rounds: int
) -> Iterator[pd.DataFrame]:
    """Run every evaluation once per round.

    Args:
        selected: Evaluations of each view.
        settings: What they share.
        rounds: How often each runs. A skipped evaluation is tried only once.

    Yields:
        After each round, one row per evaluation so far: `view`, `way` (its name), `round` and the
        fields that `evaluate` returns.
    """
    rows, skipped = [], set()
    for turn in range(rounds):
        for view, evaluations in selected.items():
            for evaluation in evaluations:
                if (view, evaluation.name) in skipped:
                    continue
                row = evaluate(view, evaluation, settings)
                rows.append({"view": view, "way": evaluation.name, "round": turn, **row})
                if row["skipped"]:
                    skipped.add((view, evaluation.name))
                outcome = row["skipped"] or f"{row['images_per_s']:.2f} images/s"
                print(f"round {turn + 1}, {view}, {evaluation.name}: {outcome}", flush=True)
        yield pd.DataFrame(rows)


def evaluate(view: str, evaluation: Evaluation, settings: Settings) -> dict:
    """Run one evaluation in a process of its own.

    Returns:
        The fields of `contract.Report`, and `process_s`: seconds of the whole process, with imports
        and loading. Only `version` and `skipped` if its file could not be prepared.

    Raises:
        SystemExit: With the output of the process if it failed.
    """
    if evaluation.file not in settings.files:
        package = evaluation.file
        return {"version": "", "skipped": f"{package} is not installed: pip install {package}"}
    options = {
        "model": settings.files[evaluation.file],
        "data": settings.data,
        "view": view,
        "side": settings.side,
        "batch": settings.batch,
        "threads": settings.threads,
        "calls": settings.calls,
        "precision": evaluation.precision,
    }
    command = [sys.executable, str(PEERS / f"{evaluation.script}.py")]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{evaluation.name}, {view}: {done.stdout}\n{done.stderr}")
    report = json.loads(done.stdout.splitlines()[-1])
    return {**report, "process_s": time.perf_counter() - start}
