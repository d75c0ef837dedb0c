"""Files of one thin net in several precisions, and square photos."""

import numpy as np
import pytest
from PIL import Image

from bench.models.model import ModelOptions, open_models
from export.cli import main as vgg_export
from export.write_ncnn import export_ncnn
from tests.support.nets import save_net, thin_net
from tests.support.run import run


@pytest.fixture(scope="session")
def layer_files(photos, tmp_path_factory):
    """By name: a checkpoint and its exports."""
    folder = tmp_path_factory.mktemp("layers")
    source = save_net(thin_net("A", seed=5), folder / "A.pt")
    options = ["--onnx", "--precision", "fp32,int8,int8-cpu", "--calibration", photos]
    run(vgg_export, source, *options, "--out", folder, "--threads", "1")
    export_ncnn(folder / "A.fp32.onnx", 1, lambda text: None)
    names = ("A.fp32.onnx", "A.int8.onnx", "A.int8-cpu.onnx", "A.fp32.ncnn.param")
    return {"A.pt": source, **{name: folder / name for name in names}}


@pytest.fixture(scope="session")
def squares_of_photos(photos):
    """Three photos, (1, 3, 48, 48) uint8 each."""
    found = []
    for name in ("disc", "square", "stripes"):
        with Image.open(photos / "val" / name / "000.jpeg") as image:
            pixels = np.asarray(image.convert("RGB").resize((48, 48)))
        found.append(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    return found


@pytest.fixture
def opened(layer_files):
    """Opens files of `layer_files` in their order."""

    def open_named(*names, **options):
        return open_models([layer_files[name] for name in names], ModelOptions(**options))

    return open_named
