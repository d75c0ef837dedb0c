"""Measures the memory of models: each in processes of its own that only open it and answer."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

import vgg_deploy
from bench.memory.child import STATUS, Seen
from bench.models.model import Model
from bench.statistics.mean_test import mean_estimate
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.progress import progress
from vgg_deploy.runtimes.graph_interface import interface_of

PROCESSES = 3  # per model; their peaks differ by what the allocators and threads happened to do
MODULE = "bench.memory.child"
NAN = float("nan")


@dataclass(frozen=True)
class MemoryRow:
    """One model after calls of one size, and of all smaller ones.

    Field names are the columns of memory.csv.
    """

    model: str
    runtime: str
    precision: str
    device: str
    threads: int
    height_px: int
    width_px: int
    batch: int
    processes: int
    peak_mib: float  # mean over the processes of the largest resident memory until then
    peak_low_mib: float  # 95 % interval of the mean, by Student's t
    peak_high_mib: float
    highest_mib: float  # of any process
    libraries_mib: float  # resident before the model was opened; part of the peak
    device_mib: float  # that the model takes on the GPU; missing on a CPU


@dataclass(frozen=True, eq=False)
class Memory:
    """What was measured of one model.

    Attributes:
        model: The model.
        rows: From small to large images.
        peaks: (processes,) MiB, the largest resident memory of each process over all sizes.
    """

    model: Model
    rows: list[MemoryRow]
    peaks: np.ndarray


def measure_memory(
    models: Sequence[Model],
    sides_of: Callable[[Model], tuple[int, ...]],
    batches: tuple[int, ...],
    stated: StatedInput = NOTHING_STATED,
    cuda_graphs: bool = False,
) -> list[Memory]:
    """Run every model in processes of its own.

    Args:
        models: Opened models; they are opened again from their files.
        sides_of: Gives the values of Q of a model, in pixels.
        batches: Images per call.
        stated: What the command line says about the input of weights of other projects.
        cuda_graphs: Whether kernels are recorded and replayed.

    Raises:
        InputError: On systems without /proc, which do not tell a process its peak.
        CheckFailed: For a process that ended without an answer.
    """
    if not STATUS.exists():
        raise InputError(
            f"the memory of a process is read from {STATUS}, which this system does not have",
            "leave memory out of what is measured",
        )
    found = []
    with progress("memory", len(models) * PROCESSES) as bar:
        for model in models:
            sizes = sorted(
                product(sides_of(model), _batches(model, batches)),
                key=lambda size: (size[0] ** 2 * size[1], size[0]),
            )
            seen = []
            for _ in range(PROCESSES):
                seen.append(_in_a_process(model, sizes, stated, cuda_graphs))
                bar.advance(1, model.name)
            found.append(_summary(model, sizes, seen))
    return found


def _in_a_process(
    model: Model, sizes: list[tuple[int, int]], stated: StatedInput, cuda_graphs: bool
) -> Seen:
    runtime = model.runtime
    interface = interface_of(runtime)
    job = {
        "path": str(model.path.absolute()),
        "device": runtime.device,
        "threads": runtime.threads,
        "runtime": runtime.name,
        "precision": runtime.precision,
        "stated": asdict(stated) if model.assumed else {},
        "cuda_graphs": cuda_graphs,
        "outputs": [interface.graph_name(name) for name in SCORES],
        "whole_images": interface.side is not None,
        "sizes": sizes,
    }
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps(job),
        env={**os.environ, "PYTHONPATH": _search_path()},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CheckFailed(
            f"{model.path}: its memory was not measured, the process that opens it ended "
            f"({reason[0]})",
            "free some memory, or leave memory out of --measure",
        )
    return Seen(**json.loads(done.stdout.splitlines()[-1]))


def _batches(model: Model, batches: tuple[int, ...]) -> tuple[int, ...]:
    """The batch sizes that a model is called with: its only one, if there is one."""
    count = interface_of(model.runtime).count
    return batches if count is None else (count,)


def _search_path() -> str:
    """Where the process finds these packages, as this one does."""
    here = str(Path(vgg_deploy.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([here, before]) if before else here


def _summary(model: Model, sizes: list[tuple[int, int]], seen: list[Seen]) -> Memory:
    """Mean and interval over the processes, size by size."""
    peaks = np.array([one.peak_mib for one in seen])  # (processes, sizes)
    rows = []
    for index, (side, batch) in enumerate(sizes):
        mean, low, high = mean_estimate(peaks[:, index])
        on_device = [one.device_mib[index] for one in seen if one.device_mib]
        row = MemoryRow(
            **model.described,
            device=model.runtime.device,
            threads=model.runtime.threads,
            height_px=side,
            width_px=side,
            batch=batch,
            processes=len(seen),
            peak_mib=mean,
            peak_low_mib=low,
            peak_high_mib=high,
            highest_mib=float(peaks[:, index].max()),
            libraries_mib=float(np.mean([one.libraries_mib for one in seen])),
            device_mib=float(np.mean(on_device)) if on_device else NAN,
        )
        rows.append(row)
    return Memory(model, rows, peaks[:, -1])
