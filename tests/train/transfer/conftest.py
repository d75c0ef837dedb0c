"""Small data sets with known answers."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.features import write_features

VOC_CLASSES = ("bird", "cat", "dog")


def write_voc(root: Path, sets: dict[str, dict[str, tuple[int, ...]]], lists=True, xml=True):
    """Write a folder as Pascal VOC's.

    Args:
        root: Such as VOCdevkit/VOC2007.
        sets: Labels of VOC_CLASSES by set and image.
        lists: Whether classes have lists.
        xml: Whether images have annotations.
    """
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (root / "Annotations").mkdir()
    for name, images in sets.items():
        (main / f"{name}.txt").write_text("".join(f"{image}\n" for image in images))
        for number, label in enumerate(VOC_CLASSES):
            if lists:
                lines = [f"{image} {labels[number]:2d}\n" for image, labels in images.items()]
                (main / f"{label}_{name}.txt").write_text("".join(lines))
        for image, labels in images.items():
            objects = ""
            for label, value in zip(VOC_CLASSES, labels, strict=True):
                # an image that shows a class also has difficult objects of it
                for difficult in {1: (1, 0, 1), 0: (1,), -1: ()}[value]:
                    objects += (
                        f"<object><name>{label}</name><difficult>{difficult}</difficult>"
                        "<part><name>head</name></part></object>"
                    )
            if xml:
                (root / "Annotations" / f"{image}.xml").write_text(
                    f"<annotation><filename>{image}.jpg</filename>{objects}</annotation>"
                )
    return root


def voc_sets(seed=0, train=60, test=40) -> dict[str, dict[str, tuple[int, ...]]]:
    """Random labels for trainval and test; each class has images of all kinds in both."""
    rng = np.random.default_rng(seed)
    sets = {}
    for name, count, first in (("trainval", train, 1), ("test", test, 501)):
        labels = rng.choice([1, 0, -1], (count, 3), p=[0.35, 0.1, 0.55])
        labels[:3] = np.array([[1, 0, -1], [0, -1, 1], [-1, 1, 0]])
        sets[name] = {f"{first + i:06d}": tuple(map(int, row)) for i, row in enumerate(labels)}
    return sets


@pytest.fixture
def voc(tmp_path):
    """VOCdevkit/VOC2007, and the labels in it."""
    sets = voc_sets()
    return write_voc(tmp_path / "VOCdevkit" / "VOC2007", sets), sets


@pytest.fixture
def voc_features(tmp_path, voc):
    """Features that show the classes with noise."""
    _, sets = voc
    labels = {**sets["trainval"], **sets["test"]}
    rng = np.random.default_rng(1)
    truth = np.array(list(labels.values())) >= 0
    rows = np.maximum(rng.normal(size=(len(labels), 24)) + 1.5 * truth @ np.eye(3, 24), 0)
    images = [f"JPEGImages/{image}.jpg" for image in labels]
    return write_features(
        tmp_path / "voc-features", images, [""] * len(images), {"relu7": rows.astype("f4")},
        images_per_shard=16,
    )  # fmt: skip


def class_photos(classes=("cat", "dog", "owl"), count=20):
    """Names of images in class folders, and their classes."""
    images = [f"{name}/{i:03d}.jpg" for name in classes for i in range(count)]
    return images, [image.split("/")[0] for image in images]


def descriptors_of(labels, width, seed=0, distance=1.0):
    """Descriptors that show the class with noise, positive as after a ReLU."""
    rng = np.random.default_rng(seed)
    names = sorted(set(labels))
    centres = rng.normal(size=(len(names), width)) * distance
    rows = rng.normal(size=(len(labels), width)) + centres[[names.index(x) for x in labels]]
    return np.maximum(rows, 0).astype("f4")


@pytest.fixture
def single_features(tmp_path):
    """Three classes of 20 images."""
    images, classes = class_photos()
    rows = {"relu7": descriptors_of(classes, 16), "pool5": descriptors_of(classes, 8, 1)}
    return write_features(tmp_path / "single", images, classes, rows, images_per_shard=7)
