"""vgg_deploy.export: the files of vgg-export, as objects."""

import json

import numpy as np
import onnx
import pytest

from export.python import export
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.predict.model import load


def test_files_are_written_listed_and_equal_to_the_net(here):
    net = save_net(thin_net("A", classes=("0", "1", "2", "3")), here / "A.pt")
    names = ["gas pump", "church", "French horn", "tench"]
    (exported,) = export(net, "out", classes=names, triton="models", threads=1)
    assert exported.path == here.joinpath("out/A.fp32.onnx").relative_to(here)
    assert json.loads((here / "out" / "export.json").read_text())[0]["file"] == "A.fp32.onnx"
    labels = here / "models" / "A_fp32_onnx" / "labels.txt"
    assert labels.read_text().splitlines() == names
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 50), np.uint8)
    found, expected = (load(path, threads=1).scores(images) for path in (exported.path, net))
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-6)
    assert load(exported.path).classes == tuple(names)


@pytest.mark.slow
def test_ncnn_and_two_precisions(here):
    pytest.importorskip("ncnn")
    net = save_net(thin_net("A"), here / "A.pt")
    files = [
        file.path.name for file in export(net, precision=("fp32", "fp16"), ncnn=True, threads=1)
    ]
    assert files == ["A.fp32.onnx", "A.fp16.onnx", "A.fp32.ncnn.param"]
    with pytest.raises(InputError, match="ncnn's files are made from fp32"):
        export(net, precision="fp16", ncnn=True)
    with pytest.raises(InputError, match="precision 'int3' is unknown"):
        export(net, precision="int3")


@pytest.mark.slow
def test_factors_from_python(here):
    rng = np.random.default_rng(0)
    (here / "photos").mkdir()
    for i in range(4):
        photo_of("disc", rng).resize((64, 64)).save(here / "photos" / f"{i}.png")
    net = save_net(thin_net("A"), here / "A.pt")
    (file,) = export(net, low_rank={"fc7": 20}, calibration=here / "photos", threads=1)
    names = {tensor.name for tensor in onnx.load(file.path).graph.initializer}
    assert {"fc7.a.weight", "fc7.b.weight", "fc6.weight"} <= names and "fc7.weight" not in names
    with pytest.raises(InputError, match="low_rank does not go with boxes_by, nor with ncnn"):
        export(net, low_rank={"fc7": 20}, ncnn=True)
