"""Prepares the photos and the model files that all evaluations share."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from enlarge import save_enlarged
from models import USUAL, exports, ncnn_export, random_weights

from export.release import ExportOptions
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.net.spec import NetSpec

CLASSES = 1000


@dataclass(frozen=True)
class RandomNet:
    """A net with random weights."""

    arch: str
    width: float


@dataclass(frozen=True)
class Settings:
    """What all evaluations share."""

    files: dict[str, Path]  # by the names of `model_files`
    data: Path
    side: int  # Q, pixels
    batch: int
    threads: int
    calls: int  # of the view "net"


def write_photos(dataset: Dataset, enlarge: int | None, folder: Path) -> Path:
    """Write the images as CLASS/NUMBER.jpeg, which every program sorts alike.

    Args:
        dataset: The images.
        enlarge: Shorter side in pixels to which they are rescaled; None keeps their bytes.
        folder: Where they are written.

    Returns:
        The folder.
    """
    for i in range(len(dataset)):
        path = folder / dataset.classes[dataset.labels[i]] / f"{i:06d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if enlarge is None:
            path.write_bytes(dataset.read(i))
        else:
            save_enlarged(dataset.path(i), enlarge, path)
    return folder


def random_net(net: RandomNet, dataset: Dataset, kept: Path) -> Path:
    """A checkpoint with random weights and 1,000 classes, those of the images first."""
    known = dataset.classes
    unused = (f"unused {i:04d}" for i in range(len(known), CLASSES))
    spec = NetSpec(net.arch, (*known, *unused), width=net.width, preprocessing=USUAL)
    return random_weights(spec, kept)


def model_files(names: set[str], weights: Path, photos: Path, kept: Path) -> dict[str, Path]:
    """Export the files that the evaluations need, or take them from an earlier run.

    Args:
        names: Among "weights", "fp32", "normalised", "int8-cpu" and "ncnn".
        weights: A checkpoint.
        photos: For calibration.
        kept: Folder of the exported files.

    Returns:
        A path for each name; "ncnn" is missing where ncnn is not installed.
    """
    precisions = tuple(name for name in ("fp32", "int8-cpu") if name in names)
    calibration = photos if "int8-cpu" in names else None
    options = ExportOptions(precisions, calibration=calibration, calibration_images=16)
    exported = exports(weights, kept, options)
    files = {"weights": weights, **dict(zip(precisions, exported, strict=True))}
    if "normalised" in names:
        options = ExportOptions(("fp32",), form="normalised")
        (files["normalised"],) = exports(weights, kept / "normalised", options)
    if "ncnn" in names and find_spec("ncnn"):
        files["ncnn"] = ncnn_export(files["fp32"])
    return files
