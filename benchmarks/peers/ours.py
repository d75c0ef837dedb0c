"""`python -m bench` on one file: its own loader, runtime, stored cells and arithmetic, without flips.

Views: crop is the protocol centre, dense is dense, net is its latency measurement.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from contract import Found, Task, peer_command, time_calls


def evaluate(task: Task) -> Found:
    from bench.accuracy.measure import measure_accuracy
    from bench.accuracy.protocols import rows_of
    from bench.accuracy.settings import Scoring, Storage
    from bench.models.model import ModelOptions, open_models
    from vgg_deploy.data.dataset import open_dataset

    (model,) = open_models([task.model], ModelOptions(threads=task.threads))
    crop = model.runtime.spec.crop
    if task.view == "net":
        picture = np.random.default_rng(0).integers(0, 256, (1, 3, crop, crop), np.uint8)
        return time_calls(lambda: model.runtime(picture), task.calls)
    rows = rows_of(
        (0,),
        [model.runtime.spec],
        ({"crop": "centre", "dense": "dense"}[task.view],),
        (task.side,),
        False,
    )
    with TemporaryDirectory() as cells:
        begun = time.perf_counter()
        dataset = open_dataset(task.data, "val")
        scoring = Scoring(Storage(Path(cells), "float32"), task.batch, task.threads, "stop")
        accuracy = measure_accuracy([model], rows, dataset, scoring)
        seconds = time.perf_counter() - begun
    (scored,) = accuracy.scored
    return Found(len(dataset), seconds, int((scored.ranks == 0).sum()), scored.best.tolist())


main = peer_command("ours", "vgg-deploy", ("crop", "dense", "net"), evaluate)

if __name__ == "__main__":
    main()
