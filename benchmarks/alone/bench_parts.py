"""Times the parts of a table alone: bench_parts.py MODEL DATA IMAGES SIDE BATCH THREADS.

Decoding and rescaling with all threads as processes; then the net over the same batches in memory,
in their order: once, as the bench calls it, and once more when it has seen every shape.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.data.unlabelled import open_unlabelled
from vgg_deploy.runtimes import open_runtime


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, and of the processor with ended children."""

    def cpu() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    wall, processor = time.perf_counter(), cpu()
    call()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": cpu() - processor}


def main() -> None:
    model, data, *numbers = sys.argv[1:]
    images, side, batch, threads = map(int, numbers)
    dataset = open_unlabelled(data, "stop").subset(images)
    wanted = {Scale(side, "bilinear"): np.ones(len(dataset), bool)}
    batches: list[np.ndarray] = []

    def decode() -> None:
        batches[:] = [one.images for one in size_batches(dataset, wanted, batch, threads)]

    decode()  # files into the page cache
    found = {"decode": timed(decode)}
    runtime = open_runtime(Path(model), "cpu", threads)

    def net() -> None:
        for one in batches:
            runtime(one)

    found |= {"net_once": timed(net), "net": timed(net)}
    print(json.dumps({**found, "batches": len(batches)}))


if __name__ == "__main__":
    main()
