import json
import zipfile
from dataclasses import replace

import pytest
import torch
from conftest import save_net, thin_net

from vgg_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.errors import InputError
from vgg_deploy.nets import open_net
from vgg_deploy.spec import NetSpec, Preprocessing, numbered


def test_a_net_comes_back_whole(tmp_path):
    net = thin_net("A-LRN", lrn="caffe", names=("a disc", "a square", "striped", "a triangle"), recipe="by hand")
    back = open_net(save_net(net, tmp_path / "net.pt"))
    assert back.spec == net.spec
    images = torch.randn(2, 3, 70, 45, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        assert torch.equal(back(images), net(images))


def refusal(path) -> str:
    with pytest.raises(InputError) as refused:
        load_checkpoint(path)
    assert refused.value.exit_code == 2
    assert str(path) in refused.value.message
    return refused.value.message


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("not a net")
    assert "cannot be read as a torch file" in refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "gone.pt")


def test_a_truncated_file_is_refused(tmp_path):
    whole = save_net(thin_net(), tmp_path / "whole.pt").read_bytes()
    for share in (0.1, 0.5, 0.99):
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[: int(share * len(whole))])
        assert "truncated" in refusal(path)


def test_a_foreign_torch_file_is_refused_with_what_it_holds(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}, "epoch": 3}, path)
    assert "a dictionary with keys ['state_dict', 'epoch']" in refusal(path)
    torch.save(torch.zeros(3), path)
    assert "holds a Tensor" in refusal(path)


def test_code_in_a_file_never_runs(tmp_path):
    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    path = tmp_path / "evil.pt"
    torch.save({"format": "vgg-deploy-checkpoint", "version": 1, "spec": Planted()}, path)
    refusal(path)
    assert not (tmp_path / "planted").exists()


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    refusal(path)


def damaged(tmp_path, **changes):
    net = thin_net()
    held = {"format": "vgg-deploy-checkpoint", "version": 1, "spec": net.spec.to_json(), "weights": net.state_dict(), "training": {}}
    torch.save({**held, **changes}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_a_newer_version_is_refused(tmp_path):
    assert "format version 99, this program reads 1" in refusal(damaged(tmp_path, version=99))


def test_weights_of_another_net_are_refused(tmp_path):
    weights = thin_net("B").state_dict()
    assert "is not a layer of it (net A)" in refusal(damaged(tmp_path, weights=weights))
    weights = thin_net().state_dict()
    weights["fc6.weight"] = weights["fc6.weight"].flatten(1)
    assert "fc6.weight is (256, 32) torch.float32, net A wants (256, 32, 1, 1)" in refusal(damaged(tmp_path, weights=weights))
    weights["fc6.weight"] = weights.pop("fc7.weight").half()
    assert "fc7.weight is missing" in refusal(damaged(tmp_path, weights=weights))


def test_a_damaged_description_is_refused(tmp_path):
    spec = json.loads(thin_net().spec.to_json())
    assert "arch 'F' is not in Table 1" in refusal(damaged(tmp_path, spec=json.dumps({**spec, "arch": "F"})))
    assert "unknown fields ['surprise']" in refusal(damaged(tmp_path, spec=json.dumps({**spec, "surprise": 1})))
    assert "damaged" in refusal(damaged(tmp_path, spec="{"))
    other = {**spec["preprocessing"], "channel_order": "BGR"}
    assert "another version" in refusal(damaged(tmp_path, spec=json.dumps({**spec, "preprocessing": other})))


def test_an_unwritable_place_is_refused_and_the_old_file_stays(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(blocked / "net.pt", Checkpoint(thin_net().spec, {}))
    assert blocked.read_text() == "in the way"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = save_net(thin_net(), tmp_path / "net.pt")
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        save_checkpoint(path, Checkpoint(thin_net().spec, {"bad": lambda: None}))  # cannot be pickled: fails half-way
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "F"}, "choose one of A, A-LRN, B, C, D, E"),
        ({"classes": ()}, "at least one class"),
        ({"classes": ("a", "a")}, "repeat"),
        ({"names": ("one",)}, "4 classes have 1 names"),
        ({"crop": 100}, "not a multiple of 32"),
        ({"width": 0.0}, "width 0.0"),
        ({"lrn": "tf"}, "choose one of alexnet, caffe"),
        ({"train_side": (20, 64)}, "32 <= low <= high"),
    ],
)
def test_a_description_is_checked_when_made(change, message):
    with pytest.raises(InputError, match=message):
        replace(thin_net().spec, **change)


def test_mean_and_filter_are_checked_when_made():
    with pytest.raises(InputError, match="between 0 and 255"):
        Preprocessing(mean=(0.485, 0.456, -0.4))
    with pytest.raises(InputError, match="choose one of bilinear, bicubic"):
        Preprocessing(filter="lanczos")


def test_the_description_survives_json():
    spec = NetSpec("E", numbered(7), width=0.5, crop=64, train_side=(64, 128))
    assert NetSpec.from_json(spec.to_json(), "here") == spec
