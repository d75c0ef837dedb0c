"""Finds and labels ImageNet as Kaggle's ImageNet Object Localization Challenge packs it.

LOC_synset_mapping.txt      one class a line: wnid, then names
LOC_val_solution.csv        ImageId,PredictionString; of each image one or more "wnid x y x y"
ILSVRC/Data/CLS-LOC/train/<wnid>/*.JPEG
ILSVRC/Data/CLS-LOC/val/*.JPEG
"""

import csv
import io
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import MOST_TEXT_BYTES, read_regular, real_path

CLS_LOC = Path("ILSVRC/Data/CLS-LOC")
SOLUTION = "LOC_val_solution.csv"
SYNSETS = "LOC_synset_mapping.txt"
COLUMNS = ["ImageId", "PredictionString"]


def image_root(root: Path) -> Path:
    """The folder of the splits: Kaggle's if there is one below, else the root itself."""
    return root / CLS_LOC if (root / CLS_LOC).is_dir() else root


def list_root(root: Path) -> Path:
    """The folder that the lists lie in, if the root is Kaggle's CLS-LOC itself; else the root."""
    above = real_path(root)
    if above.parts[-3:] == CLS_LOC.parts and (above.parents[2] / SOLUTION).is_file():
        return above.parents[2]
    return root


def read_solution(path: Path, images: list[str]) -> list[str]:
    """Look up the wnid of each image.

    Args:
        path: LOC_val_solution.csv.
        images: Names of files; the id is the name without its suffix.

    Returns:
        Wnids, in the order of the images.

    Raises:
        InputError: For another file, an image with several classes, or images without a line.
    """
    wnids: dict[str, str] = {}
    try:
        with io.StringIO(read_regular(path, MOST_TEXT_BYTES).decode("utf-8-sig")) as file:
            rows = csv.reader(file)
            if next(rows, None) != COLUMNS:
                raise InputError(f"{path}, line 1: expected {','.join(COLUMNS)}; restore the file")
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                image, wnid = _of_row(row, where)
                if image in wnids:
                    raise InputError(f"{where}: {image} is there twice; restore the file")
                wnids[image] = wnid
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore the file") from None
    missing = [image for image in images if Path(image).stem not in wnids]
    if missing:
        raise InputError(
            f"{path}: has no line for {len(missing)} of {len(images)} images, such as "
            f"{missing[0]}; restore the file or remove the images"
        )
    if len(wnids) > len(images):
        extra = next(iter(wnids.keys() - {Path(image).stem for image in images}))
        raise InputError(
            f"{path}: has {len(wnids)} lines for {len(images)} images, there is no {extra}; "
            "restore the images or remove the lines"
        )
    return [wnids[Path(image).stem] for image in images]


def _of_row(row: list[str], where: str) -> tuple[str, str]:
    """Image id and wnid; each box of an image is five words that start with the wnid."""
    words = row[1].split() if len(row) == len(COLUMNS) else []
    boxes = {words[i] for i in range(0, len(words), 5)}
    if len(boxes) != 1 or len(words) % 5:
        raise InputError(
            f"{where}: {','.join(row)!r:.80} is no image with boxes of one class; restore the file"
        )
    return row[0], boxes.pop()
