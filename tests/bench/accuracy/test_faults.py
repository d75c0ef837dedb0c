"""Invalid posteriors are found in every view set, when they are scored and from stored cells."""

import shutil

import numpy as np
import onnx
import pytest

from bench.accuracy.faults import (
    NOT_FINITE,
    NOT_POSTERIORS,
    OUTPUTS,
    SOFTMAX_FIRST,
    posterior_faults,
)
from bench.accuracy.measure import score_cells
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.cli import main as vgg_bench
from bench.models.model import ModelOptions, open_models
from tests.support.faulty_outputs import behind, twice_the_rows
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.data.layouts import open_dataset

PROTOCOLS = ("dense", "dense-softmax-first", "centre", "multicrop", "ten", "googlenet")


def number(graph, name, value):
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    return name


def doubled(graph):
    behind(graph, "posterior", "Mul", number(graph, "two", 2))


def a_tenth_of_a_per_cent_more(graph):
    behind(graph, "posterior", "Mul", number(graph, "more", 1.001))


def logarithm(graph):
    behind(graph, "posterior", "Log")


def reversed_classes(graph):
    """The classes in reverse order; each posterior sums to 1."""
    order = np.array([3, 2, 1, 0], np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(order, "order"))
    behind(graph, "posterior", "Gather", "order", axis=1)


def sharpened(graph):
    """Scores times 3 between the map and the softmax."""
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    factors = [softmax.input[0], number(graph, "three", 3)]
    product = onnx.helper.make_node("Mul", factors, ["sharper"])
    graph.node.insert(list(graph.node).index(softmax), product)
    softmax.input[0] = "sharper"


def sigmoid(graph):
    node = next(node for node in graph.node if node.op_type == "Softmax")
    node.op_type = "Sigmoid"
    del node.attribute[:]


def no_map(graph):
    behind(graph, "score_map", "Mul", number(graph, "nan", float("nan")))


def not_finite(graph):
    behind(graph, "posterior", "Mul", number(graph, "nan", float("nan")))


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory):
    """Eight of the images."""
    root = tmp_path_factory.mktemp("few")
    for file in sorted((photos / "val").glob("*/*"))[::3]:
        target = root / "val" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return root


def planted(tmp_path, change):
    path = written_onnx(tmp_path / "faulty.onnx", thin_net("A"))
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def faults_of(paths, data, cells, protocol):
    models, dataset = open_models(paths, ModelOptions()), open_dataset(data, "val")
    rows = select_rows(models, protocol, None if protocol == "googlenet" else (48,), False, ())
    scoring = Scoring(Storage(cells, "float32"), 3, 1, "stop")
    measured, _ = score_cells(models, rows, dataset, scoring)
    return posterior_faults(models, measured, dataset.files), measured


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (doubled, {NOT_POSTERIORS}),
        (a_tenth_of_a_per_cent_more, {NOT_POSTERIORS}),
        (logarithm, {NOT_POSTERIORS}),
        (sigmoid, {NOT_POSTERIORS}),
        (reversed_classes, {SOFTMAX_FIRST}),
        (sharpened, {SOFTMAX_FIRST}),
        (no_map, {NOT_FINITE}),
        (not_finite, {NOT_FINITE}),
        (twice_the_rows, {OUTPUTS}),
    ],
)
@pytest.mark.slow
def test_planted_outputs_are_found_in_every_view_set(few, tmp_path, protocol, change, kinds):
    path = planted(tmp_path, change)
    found, measured = faults_of([path], few, tmp_path / "cells", protocol)
    if protocol == "dense-softmax-first" and kinds == {NOT_POSTERIORS}:
        # its cell holds the mean over the map; that the posterior does not fit the map is
        # recorded in the consistency
        kinds = {SOFTMAX_FIRST}
    assert {fault.check for fault in found} == kinds
    assert all("faulty.onnx" in fault.what for fault in found)
    again, later = faults_of([path], few, tmp_path / "cells", protocol)
    assert again == found
    if change is not twice_the_rows:  # its outputs cannot be stored
        assert all(fault.images for fault in found)
        assert measured.scored > 0 and later.scored == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.slow
def test_a_sound_file_has_no_faults(few, tmp_path, protocol):
    sound = written_onnx(tmp_path / "sound.onnx", thin_net("A"))
    for dtype in ("float32", "float16"):
        paths = [sound, save_net(thin_net("A"), tmp_path / "A.pt")]
        models, dataset = open_models(paths, ModelOptions()), open_dataset(few, "val")
        rows = select_rows(models, protocol, None if protocol == "googlenet" else (48,), True, ())
        scoring = Scoring(Storage(tmp_path / "cells", dtype), 3, 1, "stop")
        measured, _ = score_cells(models, rows, dataset, scoring)
        assert posterior_faults(models, measured, dataset.files) == []
        assert max(float(cell.consistency.max()) for cell in measured.cells.values()) < 1e-6


def test_the_other_models_continue(few, tmp_path):
    """One file fails at its first call: the other has its rows, the gate names the file and why."""
    reference = save_net(thin_net("A"), tmp_path / "A.pt")
    options = {
        "--data": few,
        "--measure": "accuracy",
        "--protocols": "dense,centre",
        "--scales": 48,
        "--threads": 1,
        "--accuracy-batch": 4,
        "--cells": tmp_path / "cells",
        "--out": tmp_path / "results",
        "--max-top1-drop": 100,
    }
    args = [part for option in options.items() for part in option]
    output = run(vgg_bench, reference, planted(tmp_path, twice_the_rows), *args, code=1)
    assert "faulty.onnx: its posterior for" in output and "should be float32" in output
    accuracy = (tmp_path / "results" / "accuracy.csv").read_text()
    assert "A.pt" in accuracy and "faulty.onnx" not in accuracy
