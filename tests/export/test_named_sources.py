"""Weights by name in vgg-export: found, said, checked, and named in the files."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.cli import main
from tests.support.foreign import photos
from tests.support.published import (
    HALF,
    imagenet_net,
    local_server,
    published,
    save_with_digest,
    timm_folder,
)
from tests.support.run import run


@pytest.mark.slow
def test_a_net_of_torchvision_becomes_an_onnx_file(tmp_path, monkeypatch):
    """Oracle: torchvision's net; ONNX Runtime runs the file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    net = imagenet_net()
    with local_server(tmp_path / "served") as server:
        file = save_with_digest(net.state_dict(), server.folder, "vgg_thin")
        url = f"{server.address}/{file.name}"
        with published(url, url):
            said = run(main, "torchvision:vgg_thin", "--onnx", "--out", tmp_path / "exported")
    cache = tmp_path / "torch/hub/checkpoints" / file.name
    assert f"torchvision:vgg_thin: {cache}" in said
    assert "as torchvision's VGGThin_Weights.IMAGENET1K_V1 says" in said
    manifest = json.loads((tmp_path / "exported/A.fp32.json").read_text())
    assert "torchvision:vgg_thin" in manifest.values()
    assert manifest["class_order"] == "source"
    path = tmp_path / "exported/A.fp32.onnx"
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert any("n01440764" in value for value in metadata.values())
    crops = photos(224, 224)
    session = onnxruntime.InferenceSession(path)
    inputs = {session.get_inputs()[0].name: crops.to(torch.uint8).numpy()}
    outputs = session.run(None, inputs)
    half = torch.tensor(HALF).view(1, 3, 1, 1)
    with torch.inference_mode():
        theirs = net(((crops / 255 - half) / half).float()).softmax(1).numpy()
    posterior = next(output for output in outputs if output.shape == theirs.shape)
    np.testing.assert_allclose(posterior, theirs, rtol=1e-3, atol=1e-6)


def test_a_folder_of_timm_and_a_wrapped_file(tmp_path):
    net = imagenet_net()
    folder = timm_folder(tmp_path / "my_timm", net)
    said = run(main, folder, "--onnx", "--out", tmp_path / "one")
    assert f"{folder}: {folder / 'model.safetensors'}" in said
    assert "as the tag tv_in1k in config.json says" in said
    wrapped = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "state_dict": torch.nn.DataParallel(net).state_dict()}, wrapped)
    said = run(main, wrapped, "--onnx", "--out", tmp_path / "two")
    line = "the weights are its entry state_dict; not used: epoch; names without the prefix module."
    assert f"{wrapped}: {line}" in said
    manifest = json.loads((tmp_path / "two/A.fp32.json").read_text())
    assert any(line in text for text in manifest["assumed"])


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = run(main, "torchvision:vgg16.V9", "--onnx", code=2)
    assert "choose from torchvision:vgg16.IMAGENET1K_V1" in said
    said = run(main, "torchvision:vgg16", "--trt", code=2)
    assert "torchvision:vgg16: engines and ncnn's files are made from ONNX files" in said
    cached = tmp_path / "hub/checkpoints/vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"no net")
    said = run(main, "torchvision:vgg16", "--onnx", code=2)
    assert f"torchvision:vgg16: {cached} is damaged or another file, its sha256" in said
    assert list(tmp_path.glob("**/*.onnx")) == []
