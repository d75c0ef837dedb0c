"""Opens a folder of ImageNet's size, against torchvision's ImageFolder.

    python benchmarks/data_index.py

Makes 1.3 million empty files in 1000 class folders, with ILSVRC's names, and 50 more per class for
validation. Each start is a new process: seconds until the training and the validation set are open,
peak memory, and the memory that a forked loader process makes its own by asking for every name. The
file system's cache is warm for both alike.
"""

import os
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
from alone import run_alone
from result_tables import environment_block, markdown_table, write_csv

from vgg_deploy.data.class_folders import YOUNG_NS
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.progress import progress

VAL_IMAGES = 50  # per class
HEADS = (
    "start",
    "open s",
    "ready s",
    "of repeats",
    "its CPU s",
    "whole process s",
    "peak MiB",
    "beyond imports MiB",
    "a fork's own MiB",
)
EXPLANATION = (
    "the three in turn; files are empty, the file system's cache is warm. Open: training and "
    "validation set; ready: also the key of the colour statistics, for which size and time of "
    "20,000 files are read. Whole process: with Python, its imports and the fork. Peak: of "
    "resident memory, mapped files included. A fork's own: pages that a forked process copied "
    "when it asked for the name and label of every training image."
)


def make_files(root: Path, images: int, classes: int) -> None:
    """Make empty files: train/CLASS/CLASS_NUMBER.JPEG, val/CLASS/ILSVRC2012_val_NUMBER.JPEG."""
    with progress(f"making {images + classes * VAL_IMAGES} empty files", classes) as bar:
        for i in range(classes):
            wnid = f"n{1440764 + 10007 * i:08d}"
            train, val = root / "train" / wnid, root / "val" / wnid
            for folder in (train, val):
                folder.mkdir(parents=True)
            for number in range(images // classes):
                os.mknod(f"{train}/{wnid}_{37 * number}.JPEG")
            for number in range(VAL_IMAGES):
                os.mknod(f"{val}/ILSVRC2012_val_{number + i * VAL_IMAGES}.JPEG")
            bar.advance()


def start(what: str, kind: str, root: Path, cache: Path) -> dict:
    """Open the data in a new process.

    Args:
        what: Name of the row.
        kind: "ours" or "ImageFolder".
        root: Folder of the files.
        cache: Our cache folder.
    """
    begin = time.perf_counter()
    row = run_alone("open_data", root, kind, VGG_DEPLOY_CACHE=str(cache))
    return {"what": what, **row, "process_s": time.perf_counter() - begin}


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
def main(images: int, classes: int, repeats: int, scratch: Path | None, out: Path) -> None:
    """Write data_index.csv and data_index.md."""
    rows = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        root = Path(folder) / "data"
        make_files(root, images, classes)
        time.sleep(1 + YOUNG_NS / 1e9)  # the listing of a folder that has just changed is not kept
        start("warm-up", "ImageFolder", root, Path(folder) / "none")
        for i in range(repeats):
            cache = Path(folder) / f"cache{i}"
            rows.append(start("first start, lists and keeps", "ours", root, cache))
            rows.append(start("every later start", "ours", root, cache))
            rows.append(start("torchvision ImageFolder", "ImageFolder", root, cache))
        kept = sum(path.stat().st_size for path in cache.glob("**/*.index")) / 2**20
    table = pd.DataFrame(rows)
    write_csv(table, out / "data_index.csv")
    text = (
        f"# Opening {rows[0]['images']:,} images in {classes:,} class folders\n\n"
        f"{medians_table(table)}\n"
        f"`python benchmarks/data_index.py`, medians of {repeats}, {EXPLANATION} "
        f"Kept in the cache folder: {kept:.0f} MiB.\n\n{environment_block(available_cores())}"
    )
    write_text(out / "data_index.md", text)
    print(text)


def medians_table(table: pd.DataFrame) -> str:
    """One row per kind of start."""
    rows = []
    for what, group in table.groupby("what", sort=False):
        median = group.median(numeric_only=True)
        rows.append(
            [
                what,
                f"{median.open_s:.2f}",
                f"{median.ready_s:.2f}",
                f"{group.ready_s.min():.2f}-{group.ready_s.max():.2f}",
                f"{median.cpu_s:.2f}",
                f"{median.process_s:.2f}",
                f"{median.peak_mib:.0f}",
                f"{median.beyond_imports_mib:.0f}",
                f"{median.fork_own_mib:.1f}",
            ]
        )
    return markdown_table(HEADS, rows)


if __name__ == "__main__":
    main()
