"""Compares `vgg-bench --load` with what the latency table and a simulated queue say.

    python benchmarks/load.py D.fp32.onnx D.int8-cpu.onnx --load-seconds 120

Each file runs with one instance on all cores, and with one instance per core. The single stream's
median is set against that of bench.speed.latency in the same run. Every server row is set against a
queue that is simulated with the same arrivals, and whose servers take the median measured time of a
call: what differs is the spread of the calls, and what instances cost each other.
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd
from result_rows import ResultRows
from result_tables import environment_block

from bench.load.bound import Bound
from bench.load.measure import LoadPlan, measure_load
from bench.load.rows import OFFLINE, SERVER, SINGLE, LoadRow
from bench.load.settings import Placement
from bench.load.subjects import subject_of
from bench.models.model import ModelOptions, open_models
from bench.speed.latency import measure_latency
from vgg_deploy.load_curve.queueing import simulate_queue
from vgg_deploy.machine import available_cores

COLUMNS = {
    "model": "model",
    "scenario": "scenario",
    "instances x threads": "setting",
    "offered/s": "offered:.2f",
    "images/s": "images_per_s:.2f",
    "p50 ms": "p50:.1f",
    "p99 ms": "p99:.1f",
    "expected p50": "expected_p50:.1f",
    "expected p99": "expected_p99:.1f",
    "p50 / expected": "ratio:.2f",
    "queries": "queries",
    "dropped": "dropped",
    "all MiB": "memory:.0f",
}


def simulated(samples: pd.DataFrame, servers: int) -> np.ndarray:
    """Latencies in ms of the simulated queue, for the queries of one server row of batch 1."""
    answered = samples.dropna()
    service = float((answered.answered_ms - answered.started_ms).median()) / 1000
    due = samples.due_ms.to_numpy() / 1000
    return 1000 * (simulate_queue(due, lambda count: service, servers) - due)


def described(row: LoadRow) -> dict[str, object]:
    """What every row of the table has."""
    latencies = row.latencies
    return {
        "model": row.model,
        "scenario": row.scenario,
        "setting": f"{row.instances} x {row.threads}",
        "offered": row.offered_per_s,
        "images_per_s": row.images_per_s,
        "p50": latencies.p50_ms,
        "p99": latencies.p99_ms,
        "queries": row.queries,
        "dropped": row.dropped,
        "memory": row.memory_mib,
    }


@click.command(context_settings={"show_default": True})
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--side", default=224, help="Q, pixels.")
@click.option("--load-seconds", default=60.0)
@click.option("--bound", default=5.0, help="Multiple of the single stream's median.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(models: tuple[Path, ...], side: int, load_seconds: float, bound: float, out: Path) -> None:
    """Write load.csv and load.md."""
    cores = available_cores()
    rows = ResultRows(out / "load.csv", "Load tests beside a simulated queue", COLUMNS)
    both = dict.fromkeys((Placement(1, cores), Placement(cores, 1)))
    plan = LoadPlan(tuple(both), (1,), 0.0, (), Bound(None, bound), load_seconds, side)
    for path in models:
        (model,) = open_models([path], ModelOptions(threads=cores))
        latency, _, _ = measure_latency(model.runtime, model.described, side, 1)
        subject = subject_of(model)
        del model  # its memory is for the instances
        for row, samples in measure_load(subject, plan):
            line = described(row)
            if row.scenario == SINGLE and row.threads == cores:
                line["expected_p50"] = latency.median_ms
            if row.scenario == SERVER and samples is not None:
                expected = simulated(samples, row.instances)
                line["expected_p50"] = float(np.percentile(expected, 50))
                line["expected_p99"] = float(np.percentile(expected, 99))
            if "expected_p50" in line and row.scenario != OFFLINE:
                line["ratio"] = row.latencies.p50_ms / float(str(line["expected_p50"]))
            rows.add(line)
    rows.note(
        f"`python benchmarks/load.py`, one image of {side} x {side} per call, {cores} cores, "
        f"{load_seconds:g} s per measurement. Expected: of a single stream the median of the "
        "latency table; of a server the simulated queue with the measured median time of a call."
    )
    rows.note(environment_block(cores))
    print(rows.markdown())


if __name__ == "__main__":
    main()
