"""The options of `python -m train.transfer` as one typed record."""

from dataclasses import dataclass
from pathlib import Path

TASKS = ("single", "multi")
JOINS = ("stack", "average")
SETS = ("train", "val", "trainval", "test")  # of Pascal VOC
RULES = ("2007", "2010")  # of average precision
ALL = 1_000_000  # test images per class: all that are not for training
DEFAULT_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
ONLY = {  # options that belong to one task
    "splits": "single",
    "train_per_class": "single",
    "test_per_class": "single",
    "train_set": "multi",
    "test_set": "multi",
    "ap": "multi",
}


@dataclass(frozen=True)
class TransferRequest:
    """What is asked for.

    Attributes:
        features: Folders of features, one per net.
        task: One of TASKS.
        layer: Of all folders; None where it is clear.
        join: One of JOINS; None as the features were written.
        annotations: Class folders or Pascal VOC; None for the classes of the lists of images.
        splits: Number of random splits.
        train_per_class: Training images per class.
        test_per_class: Most test images per class.
        train_set: Of VOC; None where it is clear.
        test_set: Of VOC; None where it is clear.
        ap: One of RULES; None for that of the data set.
        c_grid: Values of C, ascending.
        seed: Of everything that is drawn.
        out: Folder of the results.
    """

    features: tuple[Path, ...]
    task: str
    layer: str | None = None
    join: str | None = None
    annotations: Path | None = None
    splits: int = 3
    train_per_class: int = 30
    test_per_class: int = 50
    train_set: str | None = None
    test_set: str | None = None
    ap: str | None = None
    c_grid: tuple[float, ...] = DEFAULT_GRID
    seed: int = 0
    out: Path = Path("transfer")
