"""Opening a folder of ImageNet's size, against torchvision's ImageFolder: python benchmarks/data_index.py

Makes 1.3 million empty files in 1000 class folders, with ILSVRC's names, and 50 more a class for validation. Each start is a fresh
process: seconds until training and validation set are open, peak memory, and the memory that a forked loader process makes its own
by asking for every name. The file system's cache is warm, for both alike.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pandas as pd

from bench.results.environment import describe_environment
from vgg_deploy.data.class_folders import YOUNG_NS
from vgg_deploy.machine import available_cores
from vgg_deploy.progress import progress

VAL_IMAGES = 50  # a class
# what a start does until it can read the first image; prints what it held after it
OURS = """
from vgg_deploy.data.layouts import open_dataset
begin()
train, val = (open_dataset(root, split) for split in ("train", "val"))
opened()
train.subset(20_000).fingerprint()  # asked for by the colour statistics of a training
ready(len(train), len(val))
in_a_fork(lambda: sum(len(train.files[i]) + int(train.labels[i]) for i in range(len(train))))
"""
IMAGE_FOLDER = """
from torchvision.datasets import ImageFolder
begin()
train, val = (ImageFolder(f"{root}/{split}") for split in ("train", "val"))
opened()
ready(len(train), len(val))
in_a_fork(lambda: sum(len(train.samples[i][0]) + train.samples[i][1] for i in range(len(train))))
"""
FRAME = """
import gc, json, os, sys, time
root = sys.argv[1]

def memory(key, file="status"):
    return next(int(line.split()[1]) for line in open(f"/proc/self/{file}") if line.startswith(key)) / 1024

def begin():
    global begun, cpu_begun, before
    begun, cpu_begun, before = time.perf_counter(), time.process_time(), memory("VmRSS")

def opened():
    global open_s
    open_s = time.perf_counter() - begun

def ready(*counts):
    global found
    found = {"open_s": open_s, "ready_s": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu_begun, "peak_mib": memory("VmHWM")}
    found |= {"beyond_imports_mib": memory("VmHWM") - before, "images": sum(counts)}

def in_a_fork(ask):
    into, out = os.pipe()
    if not os.fork():
        before = memory("Private_Dirty", "smaps_rollup")
        ask()
        os.write(out, str(memory("Private_Dirty", "smaps_rollup") - before).encode())
        os._exit(0)
    os.wait()
    found["fork_own_mib"] = float(os.read(into, 100))
    print(json.dumps(found))
"""


def make_files(root: Path, images: int, classes: int) -> None:
    """ROOT/train/CLASS/CLASS_NUMBER.JPEG and ROOT/val/CLASS/ILSVRC2012_val_NUMBER.JPEG, all of them empty."""
    with progress(f"making {images + classes * VAL_IMAGES} empty files", classes) as bar:
        for i in range(classes):
            wnid = f"n{1440764 + 10007 * i:08d}"
            for split, count, stem in (
                ("train", images // classes, wnid),
                ("val", VAL_IMAGES, "ILSVRC2012_val"),
            ):
                folder = root / split / wnid
                folder.mkdir(parents=True)
                for number in range(count):
                    os.mknod(
                        f"{folder}/{stem}_{number + i * VAL_IMAGES if split == 'val' else 37 * number}.JPEG"
                    )
            bar.advance()


def start(what: str, code: str, root: Path, cache: Path) -> dict:
    """One fresh process."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", FRAME + code, str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "VGG_DEPLOY_CACHE": str(cache)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return {
        "what": what,
        **json.loads(done.stdout.splitlines()[-1]),
        "process_s": time.perf_counter() - begun,
    }


@click.command(context_settings={"show_default": True})
@click.option("--images", default=1_300_000, help="For training, all empty.")
@click.option("--classes", default=1000)
@click.option("--repeats", default=5)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Where the files are made, and removed again.  [default: the system's temporary folder]",
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(images, classes, repeats, scratch, out):
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        root = Path(folder) / "data"
        make_files(root, images, classes)
        time.sleep(1 + YOUNG_NS / 1e9)  # the listing of a folder that has just changed is not kept
        start("warm-up", IMAGE_FOLDER, root, Path(folder) / "none")
        rows = []
        for i in range(repeats):
            cache = Path(folder) / f"cache{i}"
            rows += [
                start("first start, lists and keeps", OURS, root, cache),
                start("every later start", OURS, root, cache),
            ]
            rows.append(start("torchvision ImageFolder", IMAGE_FOLDER, root, cache))
        kept = sum(path.stat().st_size for path in cache.glob("**/*.index")) / 2**20
    table = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "data_index.csv", index=False)
    means = table.groupby("what", sort=False)
    lines = []
    for what, group in means:
        middle = group.median(numeric_only=True)
        spread = f"{group.ready_s.min():.2f}-{group.ready_s.max():.2f}"
        lines.append(
            f"| {what} | {middle.open_s:.2f} | {middle.ready_s:.2f} | {spread} | {middle.cpu_s:.2f} | {middle.process_s:.2f} | {middle.peak_mib:.0f} "
            f"| {middle.beyond_imports_mib:.0f} | {middle.fork_own_mib:.1f} |"
        )
    head = (
        "| start | open s | ready s | of repeats | its CPU s | whole process s | peak MiB | beyond imports MiB | a fork's own MiB |\n"
        + "| --- " * 9
        + "|\n"
    )
    (out / "data_index.md").write_text(
        f"# Opening {rows[0]['images']:,} images in {classes:,} class folders\n\n{head}"
        + "\n".join(lines)
        + "\n\n"
        f"`python benchmarks/data_index.py`, medians of {repeats}, the three in turn; files are empty, the file system's cache is warm. Open: training and "
        "validation set; ready: also the key of the colour statistics, 20,000 files asked for size and time. Whole process: with Python, its imports and the "
        "fork. Peak: of resident memory, mapped files included. A fork's own: pages that a forked process copied when it asked for the name and label of "
        f"every training image. Kept in the cache folder: {kept:.0f} MiB.\n\n```json\n{json.dumps(describe_environment(available_cores()), indent=2)}\n```\n"
    )
    print((out / "data_index.md").read_text())


if __name__ == "__main__":
    main()
