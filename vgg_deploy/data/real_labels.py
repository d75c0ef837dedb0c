"""Opens ILSVRC's validation images with the reassessed labels (ReaL): real.json beside them.

Source: Beyer, Henaff, Kolesnikov, Zhai and van den Oord, "Are we done with ImageNet?" (2020). The
file is a list of 50,000 lists of class numbers, for the images in the order of their names. An
image may have several right classes. One without labels is not counted.
"""

import re
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import files_below, is_image
from vgg_deploy.data.imagenet import IMAGES, Benchmark
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.kaggle import image_root
from vgg_deploy.errors import InputError
from vgg_deploy.json_files import read_json
from vgg_deploy.net.imagenet_classes import imagenet_wnids
from vgg_deploy.regular_files import is_regular

FILE = re.compile(r"ILSVRC2012_val_([0-9]{8})(?:_n[0-9]{8})?\.[A-Za-z]+")  # Hugging Face adds wnids
RULE = "right if the best class is one of an image's labels"


def is_real(root: Path) -> bool:
    """Whether a data set is named by its file of reassessed labels."""
    return root.suffix == ".json" and is_regular(root)


def open_real(path: Path, split: str) -> Dataset:
    """Open the validation images beside a file of reassessed labels.

    Args:
        path: real.json. The images lie in `val` beside it, flat or in class folders, or in Kaggle's
            folders beside it, or beside it themselves.
        split: "val"; there is no other.

    Returns:
        The images that have labels. `labels` is the first label of each, `right` has all of them.

    Raises:
        InputError: For another file, for images that are not of the validation set, or if there are
            none.
    """
    if split != "val":
        raise InputError(
            f"{path}: holds labels of validation images only", "name a folder of images", "data"
        )
    labels = _read(path)
    folder = image_root(path.parent)
    if (folder / "val").is_dir():
        folder = folder / "val"
    images = _numbered_images(folder)
    kept = [(file, labels[number - 1]) for number, file in images.items() if labels[number - 1]]
    if not kept:
        raise InputError(f"{path}: none of the {len(images)} images in {folder} has a label")
    most = max(len(right) for _, right in kept)
    right = np.array([[*r, *[-1] * (most - len(r))] for _, r in kept], np.int64)
    files = Names.of(file for file, _ in kept)
    ids = imagenet_wnids()
    benchmark = Benchmark("ImageNet ReaL", (), RULE, ids)
    return Dataset(folder, files, right[:, 0], ids, ids, right=right, benchmark=benchmark)


def _read(path: Path) -> list[list[int]]:
    """Read and check the labels of all validation images."""
    content = read_json(path)
    expected = f"expected {IMAGES['val']:,} lists of class numbers, as real.json has"
    if not isinstance(content, list) or len(content) != IMAGES["val"]:
        found = f"{len(content):,} entries" if isinstance(content, list) else "no list"
        raise InputError(f"{path}: has {found}, {expected}")
    count = len(imagenet_wnids())
    for number, labels in enumerate(content, start=1):
        is_list = isinstance(labels, list) and len(labels) == len(set(map(repr, labels)))
        if not is_list or not all(type(label) is int and 0 <= label < count for label in labels):
            raise InputError(
                f"{path}, entry {number}: {labels!r:.60} is no list of different class numbers "
                f"from 0 to {count - 1}"
            )
    return content


def _numbered_images(folder: Path) -> dict[int, str]:
    """Names of the images below a folder, by their numbers in the validation set, ascending."""
    found: dict[int, str] = {}
    for file in files_below(folder):
        if not is_image(file.name):
            continue
        match = FILE.fullmatch(file.name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= IMAGES["val"]:
            raise InputError(
                f"{file}: is not named as a validation image of ILSVRC is "
                "(ILSVRC2012_val_00000001.JPEG), so its labels are unknown; restore its name"
            )
        name = file.relative_to(folder).as_posix()
        if number in found:
            raise InputError(f"{folder}: {found[number]} and {name} are the same image; remove one")
        found[number] = name
    if not found:
        raise InputError(
            f"{folder}: has no images of ILSVRC's validation set", "put them there", "data"
        )
    return dict(sorted(found.items()))
