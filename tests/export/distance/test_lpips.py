"""LPIPS files against two implementations by others: the package lpips, and torchmetrics."""

import json
import warnings

import numpy as np
import pytest
import torch

from export import distance_preparation
from export.distance import heads, pairs
from export.distance_files import export_distances
from export.settings.distance_choice import DistanceChoice
from export.settings.export_options import ExportOptions
from vgg_deploy.data.built_in import render
from vgg_deploy.errors import InputError
from vgg_deploy.images.distortions import DISTORTIONS
from vgg_deploy.runtimes.distances import OnnxDistance

lpips = pytest.importorskip("lpips")
CHOICE = DistanceChoice("lpips")
TRUNK = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def torchvision_features(seed: int) -> dict[str, torch.Tensor]:
    """Random weights as torchvision's vgg16 names them, for inputs of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    weights, index, channels = {}, 0, 3
    for width in TRUNK:
        if width == "M":
            index += 1
            continue
        spread = (2 / (9 * channels)) ** 0.5
        shape = (width, channels, 3, 3)
        weights[f"features.{index}.weight"] = spread * torch.randn(shape, generator=generator)
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=generator)
        index, channels = index + 2, width
    return weights


@pytest.fixture(scope="module")
def weights():
    return torchvision_features(1)


@pytest.fixture(scope="module")
def source(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg16_features.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.fixture(scope="module")
def exported(source, lines, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BUILT_IN_PHOTOS", 1)
        patch.setattr(distance_preparation, "check_pairs", small_pairs)
        options = ExportOptions(("fp32",), distance=CHOICE)
        folder = tmp_path_factory.mktemp("exported")
        return export_distances(source, folder, options, CHOICE, 2, lines.append)


def small_pairs(least: int) -> list[pairs.Pairs]:
    """The first sizes; full-width nets take seconds for the larger ones."""
    return pairs.check_pairs(least)[:3]


def filled(model, weights):
    """A model of the oracle, with its trunk as torchvision would have filled it."""
    places = {
        name.split(".")[1]: name.rpartition(".")[0]
        for name in model.net.state_dict()
        if name.endswith("weight")
    }
    state = {}
    for name, tensor in weights.items():
        _, index, kind = name.split(".")
        place = next(p for p in places.values() if p.split(".")[-1] == index)
        state[f"{place}.{kind}"] = tensor
    model.net.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def oracles(weights):
    from torchmetrics.functional.image import lpips as of_torchmetrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "lpips": filled(lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False), weights),
            "torchmetrics": filled(
                of_torchmetrics._LPIPS(net="vgg", pnet_rand=True, pretrained=True), weights
            ),
        }


def photo_pairs(count: int, height: int, width: int):
    photos = [np.asarray(render("val", 50 + n).resize((width, height))) for n in range(count)]
    others = [DISTORTIONS[(5 * n + 1) % 15](photo, n) for n, photo in enumerate(photos)]
    return [np.stack(images).transpose(0, 3, 1, 2).copy() for images in (photos, others)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 16, 16), (3, 33, 47), (2, 64, 64), (1, 113, 150)])
def test_a_file_gives_what_lpips_and_torchmetrics_give(size, exported, oracles):
    first, second = photo_pairs(*size)
    found = OnnxDistance(exported[0].path)(first, second)
    images = [torch.from_numpy(batch).float() / 127.5 - 1 for batch in (first, second)]
    for name, oracle in oracles.items():
        with torch.inference_mode():
            expected = oracle(*images).flatten().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.slow
def test_the_export_compares_with_the_package(exported, lines):
    assert exported[0].reference == "the package lpips"
    assert exported[0].distorted.largest_error < 1e-6
    assert exported[0].distorted.spearman == 1
    assert not any("not torchvision's weights" in line for line in lines)
    manifest = json.loads(exported[0].path.with_suffix(".json").read_text())
    assert manifest["versions"]["lpips"] == "0.1.4"
    assert manifest["heads"].startswith("lpips 0.1.4, weights/v0.1/vgg.pth, sha256 ")
    assert 58e6 < exported[0].size < 59e6  # the weights once, without fc6 to fc8


def test_heads_are_those_that_the_package_loads():
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
    names = [f"lin{i}.model.1.weight" for i in range(5)]
    assert set(names) <= set(model.state_dict())
    found = heads.read_heads()
    assert [len(head) for head in found.weights] == [64, 128, 256, 512, 512]
    assert all((head >= 0).all() and head.any() for head in found.weights)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(heads, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "vgg-deploy\[lpips\]"'):
        heads.read_heads()


def test_a_damaged_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "weights" / "v0.1").mkdir(parents=True)
    (tmp_path / heads.FILE).write_bytes(b"no weights")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(heads, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match="vgg.pth: cannot be read"):
        heads.read_heads()
    torch.save({"lin0.model.1.weight": torch.ones(1, 63, 1, 1)}, tmp_path / heads.FILE)
    with pytest.raises(InputError, match="has no lin0.model.1.weight of 64 channels"):
        heads.read_heads()
    torch.save({"lin0.model.1.weight": -torch.ones(1, 64, 1, 1)}, tmp_path / heads.FILE)
    with pytest.raises(InputError, match="values that are negative or not finite"):
        heads.read_heads()


@pytest.mark.nightly
@pytest.mark.slow
def test_weights_with_another_mean_are_warned_of_and_still_checked(weights, tmp_path, monkeypatch):
    from vgg_deploy.net.input_convention import StatedInput

    monkeypatch.setattr(pairs, "BUILT_IN_PHOTOS", 1)
    monkeypatch.setattr(distance_preparation, "check_pairs", lambda least: small_pairs(least)[:1])
    torch.save(weights, tmp_path / "w.pth")
    lines = []
    stated = StatedInput(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    options = ExportOptions(("fp32",), distance=CHOICE)
    (file,) = export_distances(
        tmp_path / "w.pth", tmp_path, options, CHOICE, 2, lines.append, stated
    )
    assert any("these are not torchvision's weights" in line for line in lines)
    assert file.distorted.largest_error < 1e-6
