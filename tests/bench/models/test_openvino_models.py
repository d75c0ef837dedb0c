"""OpenVINO in the commands: chosen by --runtime(s), compared, gated, and named in results."""

import importlib.util
import json
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from bench.features.cli import main as vgg_features
from bench.models.model import ModelOptions, open_models
from bench.models.unverified import unverified_lines
from bench.predict.cli import main as vgg_predict
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.exported.signatures import signed_files
from vgg_deploy.features.folder import open_features
from vgg_deploy.files import sha256

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed: pip install openvino", allow_module_level=True)


@pytest.fixture
def files(here):
    """A checkpoint, its ONNX file and OpenVINO's own files, all of the same weights."""
    from vgg_deploy.runtimes.openvino_package import load_openvino

    net = thin_net("A")
    save_net(net, here / "A.pt")
    written_onnx(here / "A.onnx", net, sha256(here / "A.pt"))
    ov = load_openvino()
    ov.save_model(ov.Core().read_model(here / "A.onnx"), here / "A.xml", compress_to_fp16=False)
    return here


@pytest.mark.slow
def test_it_passes_the_gate_of_equal_weights(files, photos):
    """The limit for float32 files of the same weights holds for OpenVINO too."""
    words = ["A.pt", "A.onnx", "A.xml", "--runtimes", "torch,openvino", "--data", photos]
    own = ["--scales", "32", "--threads", "1", "--measure", "accuracy"]
    output = run(vgg_bench, *words, *own, "--min-agreement", "50", "--undecided", "pass")
    assert "Gate: pass" in output or "Gate: all" in output, output
    gate = json.loads((files / "results" / "gate.json").read_text())
    assert "posterior difference" in json.dumps(gate)
    table = pd.read_csv(files / "results" / "accuracy.csv")
    assert set(table.runtime) == {"torch", "openvino"}
    environment = json.loads((files / "results" / "environment.json").read_text())
    assert environment["versions"]["openvino"] == version("openvino")
    refused = run(vgg_bench, "A.pt", "--runtimes", "openvino", "--data", photos, *own, code=2)
    assert "none of them opens A.pt" in refused


@pytest.mark.slow
def test_predict_and_features(files, photos):
    words = [photos / "val" / "disc", "--threads", "1", "--out"]
    run(vgg_predict, "A.pt", *words, "torch.csv")
    for model in ("A.onnx", "A.xml"):
        run(vgg_predict, model, *words, "own.csv", "--runtime", "openvino")
        found, expected = pd.read_csv("own.csv"), pd.read_csv("torch.csv")
        np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-6)
    written_onnx(files / "F.onnx", thin_net("A"), outputs=("relu3_1", "relu7"))
    words = [photos, "--threads", "1", "--scales", "32", "--layers", "relu7", "--out"]
    run(vgg_features, "A.pt", *words, "torch")
    run(vgg_features, "F.onnx", *words, "own", "--runtime", "openvino")
    assert open_features("own").settings.model.runtime == "openvino"
    found, expected = (
        np.concatenate([*open_features(name).blocks("relu7")]) for name in ("own", "torch")
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())


def test_what_decides_its_posteriors(files):
    """The weights beside an .xml count as the file; another form of it is another model."""
    options = ModelOptions(runtimes=("openvino",))
    (before,) = open_models([files / "A.xml"], options)
    assert before.identity["version"] == version("openvino")
    assert before.identity["settings"] == {"inference_precision": "f32"}
    assert [path.name for path in signed_files(files / "A.xml")] == ["A.xml", "A.bin"]
    (line,) = unverified_lines([before])
    assert "an .xml of OpenVINO has no checksums, so damage of its weights" in line
    weights = bytearray((files / "A.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (files / "A.bin").write_bytes(weights)
    (after,) = open_models([files / "A.xml"], options)
    assert after.sha256 != before.sha256
