"""TensorRT-RTX as a plug-in of ONNX Runtime, as far as a machine without a GPU shows it."""

import importlib.util

import pytest
import torch

from export.release import ExportOptions, export_onnx
from tests.support.nets import save_net, thin_net
from vgg_deploy.cache import cache_folder
from vgg_deploy.checkup.trial import trial
from vgg_deploy.errors import InputError
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.plugins import MODULES, RTX, plugin_options

IS_THERE = importlib.util.find_spec(MODULES[RTX]) is not None


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    source = save_net(thin_net("A"), folder / "net.pt")
    return export_onnx(source, folder, ExportOptions(), None, 1, lambda text: None)[0].path


def refused(*given) -> str:
    with pytest.raises(InputError) as error:
        open_runtime(*given)
    assert error.value.exit_code == 2
    return error.value.message


@pytest.mark.skipif(IS_THERE, reason="the package is installed")
def test_without_the_package_it_is_named(file):
    message = refused(file, "cuda", 1, "onnxruntime-rtx")
    assert "onnxruntime-rtx is not installed; pip install onnxruntime-ep-nv-tensorrt-rtx" in message


@pytest.mark.skipif(
    not IS_THERE or torch.cuda.is_available(),
    reason="needs onnxruntime-ep-nv-tensorrt-rtx-cu13, and no GPU",
)
def test_without_a_gpu_it_is_one_sentence(file):
    """The real package, which finds no driver."""
    assert "the runtime onnxruntime-rtx needs a GPU" in refused(file, "cpu", 1, "onnxruntime-rtx")
    for _ in range(2):  # a library that did not load is tried again
        message = refused(file, "cuda", 1, "onnxruntime-rtx")
        assert f"{RTX}: cannot be loaded" in message and "\n" not in message
    assert "cannot be loaded" in trial("onnxruntime-rtx", "cuda")


def test_its_kernels_are_kept_in_the_cache():
    folder = plugin_options(RTX)["nv_runtime_cache_path"]
    assert folder == str(cache_folder() / "onnxruntime-rtx")
