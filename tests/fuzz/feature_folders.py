"""Readers of folders of features, and of the labels of Pascal VOC."""

import hashlib
import json
from pathlib import Path

import numpy as np

from tests.fuzz.reader import Reader, Victim
from tests.support.features import write_features
from tests.train.transfer.conftest import voc_sets, write_voc
from train.transfer.voc_lists import read_truth
from vgg_deploy.errors import InputError
from vgg_deploy.features.folder import open_features
from vgg_deploy.regular_files import read_regular


def _make_features(folder: Path) -> tuple[Victim, ...]:
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    for form in ("npy", "parquet"):
        images = ["a/1.jpg", "=1.jpg", "a/\n.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]
        write_features(folder / form, images, list("aaabbb"), {"relu7": rows}, form=form)
    return (
        Victim("npy/features.json", "json"),
        Victim("npy/images-00001.csv", "text"),
        Victim("npy/relu7-00000.npy"),
        Victim("parquet/relu7-00001.parquet"),
    )


def _read_features(folder: Path) -> object:
    """The checksums of the arrays and lists are made to fit, so that their readers see them."""
    for form in ("npy", "parquet"):
        manifest = folder / form / "features.json"
        try:
            document = json.loads(read_regular(manifest, 2**20))
            for shard in document["shards"]:
                for name in shard["sha256"]:
                    data = read_regular(folder / form / name, 2**20)
                    shard["sha256"][name] = hashlib.sha256(data).hexdigest()
            manifest.write_text(json.dumps(document))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
            pass  # the manifest itself is damaged, or a file cannot be read
        opened = open_features(folder / form)
        rows = np.concatenate(list(opened.blocks("relu7")))
        assert rows.shape == (len(opened), 4) and np.isfinite(rows).all()
        assert len(set(opened.images)) == len(opened.labels) == len(opened) <= 6
        assert opened.labels.max(initial=0) < max(1, len(opened.classes))
    return None


def _make_voc(folder: Path) -> tuple[Victim, ...]:
    sets = voc_sets(train=6, test=5)
    write_voc(folder / "lists" / "VOC2007", sets, xml=False)
    write_voc(folder / "xml" / "VOC2007", sets, lists=False)
    main = "VOC2007/ImageSets/Main"
    return (
        Victim(f"lists/{main}/cat_trainval.txt", "text"),
        Victim(f"xml/{main}/test.txt", "text"),
        Victim("xml/VOC2007/Annotations/000002.xml"),
    )


def _read_voc(folder: Path) -> object:
    for form in ("lists", "xml"):
        truth = read_truth(folder / form, None, None)
        for images in (truth.train, truth.test):
            assert images.labels.shape == (len(images.ids), len(truth.classes))
            assert np.isin(images.labels, (-1, 0, 1)).all() and len(images.ids) > 0
    return None


FOLDERS = (
    Reader("features", _make_features, _read_features),
    Reader("VOC labels", _make_voc, _read_voc),
)
