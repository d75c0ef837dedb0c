"""Opens the images of a folder and measures the cost: open_data.py FOLDER ours|ImageFolder."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from peers.memory import memory_mib, peak_mib


class Opened(NamedTuple):
    """Training and validation set."""

    images: int
    get_ready: Callable[[], object]  # the remaining work before the first image
    ask: Callable[[], object]  # asks for the name and label of every training image


def with_ours() -> Callable[[str], Opened]:
    """Import our data sets, and return how to open them."""
    from vgg_deploy.data.layouts import open_dataset

    def open_both(root: str) -> Opened:
        train, val = (open_dataset(root, split) for split in ("train", "val"))
        return Opened(
            len(train) + len(val),
            lambda: train.subset(20_000).fingerprint(),  # the key of the colour statistics
            lambda: sum(len(train.files[i]) + int(train.labels[i]) for i in range(len(train))),
        )

    return open_both


def with_image_folder() -> Callable[[str], Opened]:
    """Import torchvision's ImageFolder, and return how to open it."""
    from torchvision.datasets import ImageFolder

    def open_both(root: str) -> Opened:
        train, val = (ImageFolder(f"{root}/{split}") for split in ("train", "val"))
        return Opened(
            len(train) + len(val),
            lambda: None,
            lambda: sum(len(train.samples[i][0]) + train.samples[i][1] for i in range(len(train))),
        )

    return open_both


def private_mib() -> float:
    """Memory that this process shares with no other, MiB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
    raise ValueError("Private_Dirty: not in /proc/self/smaps_rollup")


def growth_in_fork(ask: Callable[[], object]) -> float:
    """Memory that a forked process makes its own by a call, MiB."""
    read_end, write_end = os.pipe()
    if not os.fork():
        before = private_mib()
        ask()
        os.write(write_end, str(private_mib() - before).encode())
        os._exit(0)
    os.wait()
    return float(os.read(read_end, 100))


def main() -> None:
    root, kind = sys.argv[1:]
    open_both = {"ours": with_ours, "ImageFolder": with_image_folder}[kind]()
    before = memory_mib("VmRSS")
    start, cpu_start = time.perf_counter(), time.process_time()
    opened = open_both(root)
    open_s = time.perf_counter() - start
    opened.get_ready()
    row = {
        "open_s": open_s,
        "ready_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu_start,
        "peak_mib": peak_mib(),
        "beyond_imports_mib": peak_mib() - before,
        "images": opened.images,
        "fork_own_mib": growth_in_fork(opened.ask),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
