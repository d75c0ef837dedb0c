"""Opens what is to be packed: a folder, ILSVRC's tars, Kaggle's folders or parquet files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.devkit import is_devkit
from vgg_deploy.data.ilsvrc_tars import open_train_tar, open_val_tar
from vgg_deploy.data.kaggle import image_root, list_root
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.parquet import open_parquet, parquet_files
from vgg_deploy.data.remote import is_url
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import some
from vgg_deploy.net.imagenet_classes import imagenet_wnids
from vgg_deploy.regular_files import real_path

SPLITS = ("train", "val")
EXPECTED = (
    "expected a folder, or ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar with "
    "ILSVRC2012_devkit_t12.tar.gz"
)


class Downloaded(NamedTuple):
    """What is to be packed."""

    datasets: dict[str, Dataset]  # by split
    is_imagenet: bool  # so that its counts are known


@contextmanager
def opened_downloads(sources: Sequence[str], target: Path, on_error: str) -> Iterator[Downloaded]:
    """Open a data set for packing.

    Args:
        sources: One folder or URL, or the tars and the devkit of ILSVRC.
        target: Where the shards go. Parquet files are copied there until the block ends.
        on_error: "stop" or "skip", see `open_dataset`.

    Yields:
        The data sets; all of them have the same classes.

    Raises:
        InputError: For other files, or for data that cannot be used.
    """
    folder = Path(sources[0])
    is_alone = len(sources) == 1 and (is_url(sources[0]) or not folder.is_file())
    tars = [Path(source) for source in sources] if not is_alone else _tars_in(folder)
    by_split = parquet_files(folder) if is_alone else {}
    if tars:
        yield Downloaded(_of_tars(tars, on_error), True)
    elif by_split:
        real_path(target).parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=real_path(target).parent) as copies:
            datasets = open_parquet(by_split, Path(copies))
            classes = next(iter(datasets.values())).classes
            yield Downloaded(datasets, set(classes) <= set(imagenet_wnids()))
    else:
        datasets = {split: open_dataset(sources[0], split, on_error) for split in SPLITS}
        is_kaggle = image_root(folder) != folder or list_root(folder) != folder
        is_whole = datasets["train"].classes == imagenet_wnids()
        yield Downloaded(datasets, is_kaggle or is_whole)


def _tars_in(folder: Path) -> list[Path]:
    """ILSVRC's tars and its devkit in a folder, by their names."""
    names = ("ILSVRC*_img_train*.tar", "ILSVRC*_img_val*.tar", "ILSVRC*_devkit*.tar.gz")
    found = [path for name in names for path in sorted(folder.glob(name))]
    return found if any(path.suffix == ".tar" for path in found) else []


def _of_tars(paths: list[Path], on_error: str) -> dict[str, Dataset]:
    """Open the tars of one or both splits."""
    by_kind: dict[str, Path] = {}
    for path in paths:
        kind = _kind(path)
        if kind in by_kind:
            raise InputError(f"{path}: a second file for {kind}, after {by_kind[kind]}; name one")
        by_kind[kind] = path
    datasets = {}
    if "val" in by_kind:  # first, since it is the smaller one and needs lists
        devkit = by_kind.get("devkit")
        lists = real_path(devkit).parent if devkit else None
        datasets["val"] = open_val_tar(by_kind["val"], lists, on_error)
    if "train" in by_kind:
        datasets["train"] = open_train_tar(by_kind["train"], on_error)
    if not datasets:
        raise InputError(f"{paths[0]}: has no images; {EXPECTED}")
    if len(datasets) == 2:
        train, val = (set(datasets[split].classes) for split in SPLITS)
        if train != val:
            raise InputError(
                f"{by_kind['train']} has {len(train)} classes and the lists of {by_kind['val']} "
                f"{len(val)}; only one of them has {some(sorted(train ^ val))}; use files of the "
                "same year"
            )
    return {split: datasets[split] for split in SPLITS if split in datasets}


def _kind(path: Path) -> str:
    """What a file of ILSVRC holds, by its name."""
    if not path.is_file():
        raise InputError(f"{path}: is no file; {EXPECTED}")
    if is_devkit(path.name):
        return "devkit"
    if path.suffix == ".tar":
        for split in SPLITS:
            if split in path.name:
                return split
    raise InputError(f"{path}: is not named as a tar of ILSVRC; {EXPECTED}")
