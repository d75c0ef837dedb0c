"""Training that starts from weights by name: layers come from the file, the run says which."""

import json

import pytest
import torch
from PIL import Image

from tests.support.published import HALF, imagenet_net, local_server, published, save_with_digest
from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.net.checkpoint import load_checkpoint


@pytest.fixture
def photos(tmp_path):
    for half in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / half / name
            folder.mkdir(parents=True)
            for j in range(8):
                noise = torch.randint(0, 256, (224, 224, 3), dtype=torch.uint8)
                Image.fromarray(noise.numpy()).save(folder / f"{j}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_run_starts_from_a_net_of_torchvision(tmp_path, photos, monkeypatch):
    """Oracle: the weights of torchvision's net, at a rate that changes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    net = imagenet_net()
    words = [
        *("--arch", "A", "--width", "0.0625", "--crop", "224", "--side", "224:224"),
        *("--batch", "4", "--epochs", "1", "--lr", "1e-30", "--weight-decay", "0"),
        *("--workers", "0", "--threads", "1", "--data", photos, "--out", "run"),
    ]
    with local_server(tmp_path / "served") as server:
        file = save_with_digest(net.state_dict(), server.folder, "vgg_thin")
        url = f"{server.address}/{file.name}"
        with published(url, url):
            said = run(train, *words, "--weights", "torchvision:vgg_thin")
    cache = tmp_path / "torch/hub/checkpoints" / file.name
    assert f"torchvision:vgg_thin: {cache}" in said
    assert "10 layers from" in said and "fc8 start random" in said
    best = load_checkpoint(tmp_path / "run/best.pt")
    assert best.spec.preprocessing.mean == pytest.approx((127.5, 127.5, 127.5))
    torch.testing.assert_close(best.weights["conv2_1.weight"], net.features[3].weight.detach())
    torch.testing.assert_close(
        best.weights["conv1_1.weight"], net.features[0].weight.detach() / (255 * HALF[0])
    )
    assert "torchvision:vgg_thin" in best.spec.recipe
    saved = json.loads((tmp_path / "run/config.json").read_text())
    text = json.dumps(saved)
    assert '"weights_name": "torchvision:vgg_thin"' in text and str(cache) in text


def test_unknown_names_are_refused_before_a_run_begins(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option in ("--weights", "--net-a"):
        said = run(train, "--arch", "B", "--data", photos, option, "torchvision:vgg99", code=2)
        assert "torchvision:vgg99: torchvision has no such VGG" in said
    assert not (tmp_path / "runs").exists()
