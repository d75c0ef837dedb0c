"""Guesses about names that do not exist, in every command."""

import pytest

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.near_misses import LAYERS_OF_NETS, did_you_mean
from vgg_deploy.net.archs import ARCHS


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("d", "D"),
        ("VGG16", "D"),
        ("vgg-d", "D"),
        ("16", "D"),
        ("vgg_19", "E"),
        ("VGG 11", "A"),
        ("vgg13", "B"),
        ("alrn", "A-LRN"),
        ("A_lrn", "A-LRN"),
        ("al", "all"),
    ],
)
def test_nets(typed, meant):
    assert did_you_mean(typed, (*ARCHS, "all"), LAYERS_OF_NETS) == f"; did you mean {meant}?"
    if typed != "al":
        assert f"did you mean {meant}?" in run(train, "--arch", typed, code=2)


def test_the_numbers_of_weight_layers():
    """Oracle: Table 1, counted: convolutions and three fully connected layers."""
    for layers, arch in LAYERS_OF_NETS.items():
        convolutions = sum(len(stage) for stage in ARCHS[arch].stages())
        assert convolutions + 3 == int(layers)


def test_nothing_near():
    assert did_you_mean("resnet", (*ARCHS, "all"), LAYERS_OF_NETS) == ""


@pytest.mark.parametrize(
    ("command", "words", "meant"),
    [
        (train, ("--chain", "papers"), "paper"),
        pytest.param(
            *(train, ("--chain", "paper", "--stage", "d384"), "D-384"), marks=pytest.mark.nightly
        ),
        (train, ("--init", "Glorot"), "glorot"),
        (train, ("--precision", "FP-16"), "fp16"),
        (vgg_export, ("--precision", "int8cpu"), "int8-cpu"),
        (vgg_export, ("--calibration-method", "percent"), "percentile"),
        (vgg_bench, ("--runtimes", "onnx-runtime"), "onnxruntime"),
        (vgg_bench, ("--measure", "acuracy"), "accuracy"),
        (vgg_bench, ("--device", "CUDA"), "cuda"),
    ],
)
def test_choices(here, command, words, meant):
    assert f"did you mean {meant}?" in run(command, *words, code=2)
