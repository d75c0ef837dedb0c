"""Readers of what the commands leave for each other: results, lists, caches.

What is wrong with a cache is no error: it is not used.
"""

import json
from pathlib import Path

import numpy as np

from bench.gate.gate_limits import GateLimits
from bench.gate.verdict_files import verdict_on_disk, withdraw_verdict
from bench.models.model import ModelOptions, open_models
from bench.results.results_folder import earlier_files, results_folder
from tests.fuzz.reader import Reader, Victim, seal_index
from tests.fuzz.small_models import photos, small_onnx
from train.feed.colour_statistics import Colours, _cached, _keep
from train.record.contents import compare_contents, keep_contents
from vgg_deploy.data.class_folders import _read_cached, _Stamp
from vgg_deploy.data.index_file import Index, Names, write_index
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.newest import newest_exports

ENVIRONMENT = {"when": "today", "command": "vgg-bench", "versions": {"vgg-deploy": "1"}}
STAMPS = [_Stamp("a", 1, 2, 3)]
COLOURS = Colours(np.array([1.0, 2.0, 3.0]), np.eye(3), 5)


def _make_results(folder: Path) -> tuple[Victim, ...]:
    files = ["run.json", "accuracy.csv"]
    documents = {
        "run.json": {"run_id": "x", "complete": True, **ENVIRONMENT, "files": files},
        "environment.json": ENVIRONMENT,
        "gate.json": {"run_id": "x", "verdict": "pass", "passed": True, "checks": []},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document))
    (folder / "accuracy.csv").write_text("model\n")
    (folder / "notes.txt").write_text("not of this program")
    return tuple(Victim(name, "json") for name in documents)


def _read_results(folder: Path) -> object:
    assert all(name == Path(name).name for name in earlier_files(folder))
    withdraw_verdict(folder, "a message", "another")
    verdict = folder / "gate.json"
    assert not verdict.is_file() or json.loads(verdict.read_text())["verdict"] == "error"
    run_id = "20260101-000000-00000000"
    with results_folder(folder, run_id) as results:
        with verdict_on_disk(folder, GateLimits(), run_id):
            (results.staging / "accuracy.csv").write_text("new")
        results.publish(ENVIRONMENT)
    assert (folder / "accuracy.csv").read_text() == "new"
    assert (folder / "notes.txt").exists()
    return None


def _make_exports(folder: Path) -> tuple[Victim, ...]:
    rows = [{"file": small_onnx(folder).name, "bytes": 8}, {"bytes": 8, "file": "./A.onnx"}]
    (folder / "export.json").write_text(json.dumps(rows))
    return (Victim("export.json", "json"),)


def _read_exports(folder: Path) -> object:
    for path in newest_exports(folder):
        open_models([path], ModelOptions())
    return None


def _make_image_lists(folder: Path) -> tuple[Victim, ...]:
    for split in ("train", "val"):
        for name in ("a", "b"):
            place = folder / "data" / split / name
            place.mkdir(parents=True)
            photos(1)[0].save(place / "0.png")
    sets = [open_dataset(folder / "data", split) for split in ("train", "val")]
    keep_contents(folder, *sets)
    return (
        Victim("train_images.index", seal=seal_index),
        Victim("val_images.index", seal=seal_index),
    )


def _read_image_lists(folder: Path) -> object:
    sets = [open_dataset(folder / "data", split) for split in ("train", "val")]
    compare_contents(folder, *sets, "Restore them")
    return None


def _make_caches(folder: Path) -> tuple[Victim, ...]:
    _keep(folder / "colours.json", COLOURS)
    head = {"folders": STAMPS, "strays": ["a/notes.txt"]}
    names = Names.of(["a/1.jpg", "a/2.jpg"])
    write_index(folder / "listing.index", Index(head, {"labels": np.zeros(2)}, names))
    return Victim("colours.json", "json"), Victim("listing.index", seal=seal_index)


def _read_caches(folder: Path) -> object:
    colours = _cached(folder / "colours.json")
    assert colours is None or colours.as_json() == COLOURS.as_json()
    index = _read_cached(folder / "listing.index", STAMPS)
    if index is not None:
        assert all(isinstance(file, str) for file in index.head["strays"])
        assert len(list(index.names)) == len(index.columns["labels"])
        assert (index.columns["labels"] == 0).all()
    return None


OWN = (
    Reader("results", _make_results, _read_results),
    Reader("list of exports", _make_exports, _read_exports),
    Reader("image lists", _make_image_lists, _read_image_lists),
    Reader("caches", _make_caches, _read_caches),
)
