"""Files whose weights nothing verifies are named. Oracle: what each format has."""

import torch
from safetensors.torch import save_file

from bench.models.model import ModelOptions, open_models
from bench.models.unverified import unverified_lines
from tests.fuzz.small_models import small_onnx, thin_state
from tests.support.nets import save_net, thin_net
from vgg_deploy.exported.metadata import manifest_path
from vgg_deploy.files import sha256


def test_files_without_checksums_are_named(tmp_path):
    save_net(thin_net("A", width=1 / 64), tmp_path / "A.pt")
    torch.save(thin_state(), tmp_path / "a.pth")
    torch.save(thin_state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(thin_state(), tmp_path / "a.safetensors")
    alone = small_onnx(tmp_path)
    (tmp_path / "with").mkdir()
    described = small_onnx(tmp_path / "with")
    manifest_path(described).write_text(f'{{"sha256": "{sha256(described)}"}}')
    silent = [tmp_path / "A.pt", tmp_path / "a.pth", described]
    named = [tmp_path / "old.pth", tmp_path / "a.safetensors", alone]
    assert unverified_lines(open_models(silent, ModelOptions())) == []
    lines = unverified_lines(open_models(named, ModelOptions()))
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in named]
    assert all("damage of its weights would go unnoticed" in line for line in lines)
