r"""Times one net alone on crops in memory: crop_net.py WAY MODEL BATCH CALLS THREADS.

WAY is ours (a file of vgg-export), timm (its net with our weights, from a checkpoint) or
onnxruntime (a file with normalised input). Prints the seconds of the calls after a first one.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE = 224


def ours(model: Path, batch: int, threads: int) -> Callable[[], object]:
    from vgg_deploy.runtimes import open_runtime

    runtime = open_runtime(model, "cpu", threads)
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, SIDE, SIDE), np.uint8)
    return lambda: runtime(images)


def timm(model: Path, batch: int, threads: int) -> Callable[[], object]:
    import torch
    from foreign_nets import timm_net

    from vgg_deploy.net.checkpoint import load_checkpoint

    torch.set_num_threads(threads)
    net = timm_net(load_checkpoint(model))
    images = torch.randn(batch, 3, SIDE, SIDE)

    @torch.inference_mode()
    def call() -> object:
        return net(images)

    return call


def onnxruntime(model: Path, batch: int, threads: int) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    images = np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE), np.float32)
    return lambda: session.run([], {name: images})


def main() -> None:
    way, model, *numbers = sys.argv[1:]
    batch, calls, threads = map(int, numbers)
    sys.path.append(str(Path(__file__).parents[1] / "peers"))
    call = {"ours": ours, "timm": timm, "onnxruntime": onnxruntime}[way](
        Path(model), batch, threads
    )
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    print(json.dumps({"wall_s": time.perf_counter() - start, "images": batch * calls}))


if __name__ == "__main__":
    main()
