"""`import vgg_deploy`: what it offers, that it is light, and that the stub says the same."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vgg_deploy as vd
from vgg_deploy.errors import InputError

ROOT = Path(__file__).parent.parent


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_is_light():
    heavy = "{'torch', 'torchvision', 'onnx', 'onnxruntime', 'pandas', 'numpy', 'rich', 'PIL'}"
    code = f"import sys, vgg_deploy; dir(vgg_deploy); print(sorted({heavy} & set(sys.modules)))"
    assert fresh(code) == "[]"


def test_every_name_is_there_and_documented():
    assert sorted(vd.__all__) == vd.__all__ and set(vd.__all__) <= set(dir(vd))
    for name in vd.__all__:
        found = getattr(vd, name)
        assert found.__name__ == name and inspect.getdoc(found), name


def test_the_stub_has_the_same_names_from_the_same_modules():
    tree = ast.parse((ROOT / "vgg_deploy" / "__init__.pyi").read_text())
    stubbed = {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (own,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    stubbed[own.name] = "vgg_deploy"
    assert list(inspect.signature(vd.doctor).parameters) == [arg.arg for arg in own.args.args]
    assert {name: getattr(vd, name).__module__ for name in vd.__all__} == stubbed
    (listed,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(listed) == vd.__all__


def test_unknown_names_and_missing_packages(monkeypatch):
    with pytest.raises(AttributeError, match="has no attribute 'evalute'"):
        vd.evalute  # noqa: B018
    monkeypatch.setattr(vd, "entry_points", lambda **named: ())
    with pytest.raises(ImportError, match=r"vgg_deploy.evaluate belongs to another package"):
        vd.evaluate  # noqa: B018


def test_macs_by_name():
    """Section 2.3's D at 224, counted layer by layer."""
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    sides = [224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3
    convs = zip(channels, channels[1:], sides, strict=False)
    trunk = sum(9 * c_in * c_out * side**2 for c_in, c_out, side in convs)
    head = 512 * 49 * 4096 + 4096 * 4096 + 4096 * 1000
    assert vd.macs("D", 224, 224) == trunk + head
    with pytest.raises(InputError, match="arch 'VGG16' is not in Table 1"):
        vd.macs("VGG16", 224, 224)
    with pytest.raises(InputError, match="100 x 300 is smaller than the crop 224"):
        vd.macs("D", 100, 300)


def test_a_data_set_is_a_sequence_of_images_and_labels(photos):
    data = vd.open_data(photos)
    assert len(data) == 24 == sum(1 for _ in data)
    image, label = data[-1]
    assert image.shape[0] == 3 and data.classes[label] == "triangle"
    assert tuple(image.shape[1:]) == data.size(23)
    with pytest.raises(IndexError):
        data[24]
    alone = vd.open_data(photos / "val" / "disc")
    assert len(alone) == 6 and alone[0].label is None
