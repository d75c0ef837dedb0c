"""Exports with other options, or of other nets, do not replace each other in silence."""

import json

import vgg_deploy
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


def test_another_quantization_of_the_same_source_is_not_replaced_in_silence(tmp_path, photos):
    model = save_net(thin_net("A"), tmp_path / "net.pt")
    given = (model, "--onnx", "--out", tmp_path / "out", "--precision", "int8")
    given = (*given, "--calibration", photos, "--calibration-images", "16")
    assert "replaced" not in run(vgg_export, *given)
    assert "replaced" not in run(vgg_export, *given)  # the same again
    text = run(vgg_export, *given, "--keep", "conv1_1")
    assert "the same source that is quantized in another way, will be replaced" in text


def test_what_is_no_export_is_not_replaced_in_silence(tmp_path):
    model = save_net(thin_net("A"), tmp_path / "net.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "A.fp32.onnx").write_text("a diary")
    text = run(vgg_export, model, "--onnx", "--out", tmp_path / "out")
    assert "A.fp32.onnx: will be replaced; it is not a whole export of this program" in text


def test_a_name_is_in_the_names_of_all_files_and_of_triton_models(tmp_path, photos):
    model = save_net(thin_net("A"), tmp_path / "net.pt")
    out = tmp_path / "out"
    files = vgg_deploy.export(
        model, out, precision="fp16", calibration=photos, name="dogs", triton=tmp_path / "models"
    )
    assert [file.path.name for file in files] == ["dogs.fp16.onnx"]
    names = {"dogs.fp16.onnx", "dogs.fp16.json", "dogs.calibration.json", "export.json"}
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["dogs_fp16_onnx"]
