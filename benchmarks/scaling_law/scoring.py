"""Measures dense scoring by the bench: the series over the number of images."""

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers.memory import peak_mib
from scaling_law.calls import in_new_process
from scaling_law.work import IMAGES, InputShape, Point, work

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.protocols import rows_of
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import ModelOptions, open_models
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.images.geometry import rescaled_size


class ScoringCost(NamedTuple):
    """Work, time and memory of scoring some images."""

    gmacs: float
    seconds: float
    peak_mib: float


def scoring_points(model: Path, counts: tuple[int, ...], threads: int, rounds: int) -> list[Point]:
    """Measure every number of images in every round, each in a new process."""
    everything, costs = built_in("val", max(counts)), defaultdict(list)
    for _ in range(rounds):
        for count in counts:
            cost = in_new_process(score_images, model, everything.subset(count), threads)
            costs[count].append(cost)
    points = []
    for count, of_count in costs.items():
        seconds = [cost.seconds for cost in of_count]
        points.append(
            Point(
                IMAGES,
                "bench",
                count,
                height_px=0,
                width_px=0,
                gmacs=of_count[0].gmacs,
                runs=rounds,
                median_s=float(np.median(seconds)),
                min_s=min(seconds),
                max_s=max(seconds),
                peak_mib=float(np.median([cost.peak_mib for cost in of_count])),
            )
        )
    return points


def score_images(model: Path, dataset: Dataset, threads: int) -> ScoringCost:
    """Dense scoring by the bench at the net's crop, from files to stored posteriors.

    Run it in a new process, for the peak of memory.
    """
    (opened,) = open_models([model], ModelOptions(threads=threads))
    spec = opened.runtime.spec
    rows = rows_of((0,), [spec], ("dense",), (spec.crop,), False)
    with tempfile.TemporaryDirectory() as cells:
        storage = Storage(Path(cells), "float32")
        start = time.perf_counter()
        measure_accuracy([opened], rows, dataset, Scoring(storage, 16, threads, "stop"))
        seconds = time.perf_counter() - start
    total = 0
    for i in range(len(dataset)):
        height, width = rescaled_size(*dataset.size(i), spec.crop)
        total += work(spec, InputShape(1, height, width))
    return ScoringCost(total / 1e9, seconds, peak_mib())
