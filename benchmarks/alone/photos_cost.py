"""Times calibration and sensitivity beside forward passes of the float net over the same photos.

photos_cost.py CHECKPOINT PHOTOS CALIBRATED ROUNDS TRIED THREADS: in each of ROUNDS as many photos
are calibrated on; TRIED photos try the layers alone. Everything is called in turn and starts from
files. Prints a line of JSON: seconds by name, a list of rounds each.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from export.quantize.calibration import calibrate, each_batch, read_images
from export.quantize.calibration_images import open_calibration_images
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization
from export.quantize.sensitivity import measure_sensitivity
from export.settings.precision import PRECISIONS
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.net.open_net import open_net
from vgg_deploy.runtimes.pytorch import TorchRuntime


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    source, folder = map(Path, sys.argv[1:3])
    calibrated, rounds, tried, threads = map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    net, runtime = open_net(source), TorchRuntime(open_net(source), threads=threads)
    photos = open_calibration_images(folder, rounds * calibrated, net)
    seconds: dict[str, list[float]] = {"forward": [], "calibrate": []}

    def forward(images: Dataset) -> None:
        for batch in each_batch(net, images, threads):
            runtime(batch)

    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            part = photos.take(range(number, len(photos), rounds))
            path = Path(scratch) / f"{number}.json"
            seconds["forward"].append(seconds_of(lambda part=part: forward(part)))
            seconds["calibrate"].append(
                seconds_of(
                    lambda part=part, path=path: calibrate(
                        net, "0" * 64, part, path, threads, lambda text: None
                    )
                )
            )
    images = photos.subset(tried)
    batches = read_images(net, images, threads)[0]
    for name in ("int8",) if tried else ():
        precision = PRECISIONS[name]
        thresholds = clip(measure_ranges(net, batches[:1]), "mse", precision)
        del thresholds[LAST]
        quantization = Quantization(thresholds)

        def sensitivity(precision=precision, quantization=quantization) -> None:
            read = read_images(net, images, threads)[0]
            measure_sensitivity(net, precision, quantization, read, lambda count: None)

        seconds["forward, tried"] = [seconds_of(lambda: forward(images))]
        seconds["sensitivity"] = [seconds_of(sensitivity)]
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
