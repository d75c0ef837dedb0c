"""Evaluates a file as `python -m bench` does, without flips.

Loader, runtime, stored cells and arithmetic are the bench's. Views: crop is the protocol centre,
dense is dense, net is the latency measurement.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from contract import Measured, Task, peer_command, time_calls

PROTOCOLS = {"crop": "centre", "dense": "dense"}  # by view


def evaluate(task: Task) -> Measured:
    from bench.accuracy.measure import measure_accuracy
    from bench.accuracy.protocols import rows_of
    from bench.accuracy.settings import Scoring, Storage
    from bench.models.model import ModelOptions, open_models
    from vgg_deploy.data.layouts import open_dataset

    (model,) = open_models([task.model], ModelOptions(threads=task.threads))
    crop = model.runtime.spec.crop
    if task.view == "net":
        image = np.random.default_rng(0).integers(0, 256, (1, 3, crop, crop), np.uint8)
        return time_calls(lambda: model.runtime(image), task.calls)
    rows = rows_of((0,), [model.runtime.spec], (PROTOCOLS[task.view],), (task.side,), False)
    with TemporaryDirectory() as cells:
        storage = Storage(Path(cells), "float32")
        start = time.perf_counter()
        dataset = open_dataset(task.data, "val")
        accuracy = measure_accuracy(
            [model], rows, dataset, Scoring(storage, task.batch, task.threads, "stop")
        )
        seconds = time.perf_counter() - start
    (scored,) = accuracy.scored
    return Measured(len(dataset), seconds, int((scored.ranks == 0).sum()), scored.best.tolist())


main = peer_command("ours", "vgg-deploy", ("crop", "dense", "net"), evaluate)

if __name__ == "__main__":
    main()
