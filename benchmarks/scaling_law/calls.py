"""Measures time and memory of single calls: the series over image size and batch."""

import gc
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from peers.memory import peak_mib
from scaling_law.layers import LayerSeconds, onnxruntime_layers, torch_layers
from scaling_law.work import InputShape, Point, images_of, work

from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes import Runtime, open_runtime

T = TypeVar("T")


def call_points(
    files: list[Path], spec: NetSpec, series: dict[str, list[InputShape]], rounds: int, threads: int
) -> tuple[list[Point], dict[str, LayerSeconds]]:
    """Measure every runtime at every shape of every series.

    Args:
        files: An ONNX file and a checkpoint of the same net.
        spec: The net.
        series: Input shapes for each title of a series.
        rounds: Calls per runtime and shape.
        threads: Threads of each runtime.

    Returns:
        The points, and the seconds per group of layers for each runtime.
    """
    shapes = list(dict.fromkeys(shape for of_series in series.values() for shape in of_series))
    runtimes = [open_runtime(path, threads=threads) for path in files]
    seconds = call_times(runtimes, shapes, rounds)
    names = [runtime.name for runtime in runtimes]
    layers = {
        "onnxruntime": onnxruntime_layers(files[0], shapes, threads),
        "torch": torch_layers(runtimes[1], shapes),
    }
    del runtimes
    points = []
    for name, path in zip(names, files, strict=True):
        peaks = in_new_process(peaks_of_calls, path, shapes, threads)
        for title, of_series in series.items():
            for shape in of_series:
                taken = seconds[name, shape]
                points.append(
                    Point(
                        title,
                        name,
                        *shape,
                        gmacs=work(spec, shape) / 1e9,
                        runs=rounds,
                        median_s=float(np.median(taken)),
                        min_s=min(taken),
                        max_s=max(taken),
                        peak_mib=peaks[shape],
                    )
                )
    return points, layers


def call_times(
    runtimes: list[Runtime], shapes: list[InputShape], rounds: int
) -> dict[tuple[str, InputShape], list[float]]:
    """Seconds of one call of every runtime at every shape in every round, without first calls."""
    seconds = defaultdict(list)
    for turn in range(rounds + 1):
        for shape in shapes:
            images = images_of(shape)
            for runtime in runtimes:
                start = time.perf_counter()
                runtime(images)
                if turn:
                    seconds[runtime.name, shape].append(time.perf_counter() - start)
        print(f"round {turn} of {rounds}", flush=True)
    return seconds


def peaks_of_calls(path: Path, shapes: list[InputShape], threads: int) -> dict[InputShape, float]:
    """Peak memory in MiB during the first call of a newly loaded net, after loading.

    Run it in a new process. Shapes are called by rising work, so that what the allocator keeps of
    one call is never more than the next one needs.
    """
    peaks = {}
    for shape in sorted(shapes, key=lambda shape: shape.batch * shape.height * shape.width):
        runtime, images = open_runtime(path, threads=threads), images_of(shape)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        runtime(images)
        peaks[shape] = peak_mib()
        del runtime
    return peaks


def in_new_process(function: Callable[..., T], *args: object) -> T:
    """Result of a function that runs in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()
