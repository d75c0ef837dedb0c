"""Exports with other options, or of other nets, do not replace each other in silence."""

import json

from export.cli import main as vgg_export
from tests.support.nets import save_net, thin_net
from tests.support.run import run


def test_input_form_and_name_are_in_the_file_name(tmp_path):
    model = save_net(thin_net("A"), tmp_path / "net.pt")
    other = save_net(thin_net("A", seed=1), tmp_path / "other.pt")
    out = tmp_path / "out"
    for options in ((), ("--input", "normalised"), ("--name", "dogs")):
        assert "replaced" not in run(vgg_export, model, "--onnx", "--out", out, *options)
    names = {"A.fp32.onnx", "A.normalised.fp32.onnx", "dogs.fp32.onnx"}
    assert {path.name for path in out.glob("*.onnx")} == names
    text = run(vgg_export, other, "--onnx", "--out", out)
    assert "the export of another net, net.pt, will be replaced" in text
    assert [row["file"] for row in json.loads((out / "export.json").read_text())] == ["A.fp32.onnx"]
    assert "cannot begin a file name" in run(vgg_export, model, "--onnx", "--name", "../a", code=2)
