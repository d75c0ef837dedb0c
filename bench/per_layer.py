"""Measures the layers of a run's models, and explains images: --per-layer and --explain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.accuracy.measure import Accuracy
from bench.inputs import Inputs, listed_images
from bench.layers.contract import LayerValues, NotSeparable
from bench.layers.explain import Explained, LayerEffect, explain
from bench.layers.measure import NO_FLOAT_NET, Size, measure_layers
from bench.layers.photos import squares, whole, whole_file
from bench.layers.reference import FloatNet, float_net
from bench.layers.watchers import layer_values
from bench.models.model import Model
from bench.report.contents import Findings
from bench.report.explained import explained_section
from bench.report.layer_figures import layer_drawings
from bench.report.layers import layers_section
from bench.results.results_folder import Results
from vgg_deploy.command_line import say
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.predict.views import mirror
from vgg_deploy.progress import progress

PHOTOS = 8  # on which the errors of layers are measured
MOST_DIFFERING = 3  # images per model that are explained unasked

Pixels = Callable[[Model], np.ndarray]  # (1, 3, h, w) uint8 RGB, as a model takes it


class _Asked(NamedTuple):
    """An image to explain for some models."""

    name: str
    pixels: Pixels
    models: Sequence[Model]


def conclude_layers(
    inputs: Inputs, dataset: Dataset | None, findings: Findings, results: Results
) -> None:
    """Measure layers and explain images, as far as they are asked for, and write the tables.

    Args:
        inputs: The request, and what was opened for it.
        dataset: The images, if accuracy was measured.
        findings: Of the run so far; tables and figures are added.
        results: Where the files go.

    Raises:
        InputError: For an image that cannot be read, or a limit of a runtime.
    """
    tables = inputs.request.tables
    if tables.per_layer:
        _measure(inputs, dataset or _images(inputs), findings, results)
    asked = [_of_file(path, inputs) for path in tables.explain]
    if tables.per_layer and findings.accuracy and dataset:
        asked += _differing(inputs, findings.accuracy, dataset)
    if asked:
        _explain(inputs, asked, findings, results)


def _measure(inputs: Inputs, dataset: Dataset, findings: Findings, results: Results) -> None:
    tables = inputs.request.tables
    batch, least_s = tables.batches[0], tables.latency_seconds

    def size_of(model: Model) -> Size:
        return Size(_side(inputs, model), batch, least_s)

    def photos_of(model: Model) -> list[np.ndarray]:
        return squares(dataset, PHOTOS, _side(inputs, model), model.runtime.spec)

    with progress("layers", len(inputs.models)) as bar:
        layers = measure_layers(
            inputs.models, size_of, photos_of, lambda name: bar.advance(1, name)
        )
    findings.layers = layers_section(layers, results.staging)
    findings.layer_drawings = layer_drawings(layers)
    findings.sections += findings.layers


def _explain(inputs: Inputs, asked: Sequence[_Asked], findings: Findings, results: Results) -> None:
    found: list[Explained] = []
    effects: list[LayerEffect] = []
    for model in inputs.models:
        images = [one for one in asked if model in one.models]
        opened = _opened(inputs.models, model) if images else None
        if opened is None:
            continue
        values, net = opened
        for one in images:
            explained, of_layers = _in_one_view(model, values, net, one)
            found.append(explained)
            effects += of_layers
    if not found:
        say("Nothing is explained: that takes a float32 net and another file of the same weights")
        return
    findings.explained = explained_section(found, effects, results.staging)
    findings.explanations = [one.sentence() for one in found]
    findings.sections += findings.explained


def _in_one_view(
    model: Model, values: LayerValues, net: FloatNet, asked: _Asked
) -> tuple[Explained, list[LayerEffect]]:
    """Explain the whole image, or where only its mirror image is answered differently, that."""
    pixels = asked.pixels(model)
    plain = explain(model, values, net, pixels, asked.name)
    if plain[0].differs:
        return plain
    mirrored = explain(model, values, net, mirror(pixels), f"{asked.name} (mirrored)")
    return mirrored if mirrored[0].differs else plain


def _opened(models: Sequence[Model], model: Model) -> tuple[LayerValues, FloatNet] | None:
    """The values of a model's layers, and the float32 net; None, with a reason, without either."""
    net = float_net(models, model)
    if net is None:
        say(f"{model.name}: not explained, {NO_FLOAT_NET}")
        return None
    if net.is_of(model.runtime):
        return None  # it is the net itself
    try:
        return layer_values(model.runtime), net
    except NotSeparable as why:
        say(f"{model.name} ({model.runtime.name}): not explained, {why}")
        return None


def _of_file(path: Path, inputs: Inputs) -> _Asked:
    upright = inputs.request.data.exif == "apply"

    def pixels(model: Model) -> np.ndarray:
        return whole_file(path, upright, _side(inputs, model), model.runtime.spec)

    return _Asked(str(path), pixels, inputs.models)


def _differing(inputs: Inputs, accuracy: Accuracy, dataset: Dataset) -> list[_Asked]:
    """The first images that a model and the first one answer differently, for that model."""
    found = []
    for index, model in enumerate(inputs.models):
        images: dict[int, None] = {}
        for pair in accuracy.pairs:
            if [member.model for member in pair.other.row.members] == [index]:
                at = np.flatnonzero(pair.reference.best != pair.other.best)
                images.update(dict.fromkeys(int(accuracy.positions[i]) for i in at))
        for position in list(images)[:MOST_DIFFERING]:
            found.append(_of_dataset(dataset, position, model, inputs))
    return found


def _of_dataset(dataset: Dataset, position: int, model: Model, inputs: Inputs) -> _Asked:
    def pixels(model: Model) -> np.ndarray:
        return whole(dataset, position, _side(inputs, model), model.runtime.spec)

    return _Asked(dataset.files[position], pixels, [model])


def _side(inputs: Inputs, model: Model) -> int:
    """The smallest Q of a model, in pixels."""
    return min(inputs.request.tables.sides or model.runtime.spec.test_sides)


def _images(inputs: Inputs) -> Dataset:
    """The images of --data, else built-in ones, where accuracy is not measured."""
    data = inputs.request.data.data
    if data is None:
        return built_in("val", PHOTOS)
    dataset = listed_images(inputs.request, data)
    if not len(dataset):
        raise InputError(f"{data}: has no images to measure layers with")
    return dataset
