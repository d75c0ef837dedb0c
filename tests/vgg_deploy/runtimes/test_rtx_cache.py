"""Kernels of TensorRT-RTX in the cache folder. RTX itself gives them on a GPU only."""

import hashlib
import os

import numpy as np
import pytest
import torch

from tests.support.nets import save_net, thin_net
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.rtx_cache import RuntimeCache, cache_path, read_kernels, write_kernels

KERNELS = bytes(range(256)) * 40


class Rtx:
    """Stands for the engine, its configuration and its cache, where there is no GPU."""

    def __init__(self, accepts: bool = True):
        self.accepts, self.kernels, self.given, self.in_use = accepts, b"", [], None

    def create_runtime_config(self):
        return self

    def create_runtime_cache(self):
        return self

    def set_runtime_cache(self, cache):
        self.in_use = cache
        return True

    def deserialize(self, kernels: bytes) -> bool:
        self.given.append(kernels)
        return self.accepts

    def serialize(self) -> memoryview:
        return memoryview(self.kernels)


@pytest.fixture
def path(own_cache, request):
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()
    return cache_path(digest, "1.7.1.116", "GPU of/a\\strange:name")


def test_kernels_come_back_as_they_were(path):
    assert read_kernels(path) == b""
    write_kernels(path, KERNELS)
    assert read_kernels(path) == KERNELS and path.parent.name == "tensorrt-rtx"
    assert not set(path.name) & set("/\\: ") and [path.name] == [
        file.name for file in path.parent.iterdir() if file.name == path.name
    ]


def test_damaged_kernels_are_not_taken(path):
    """Every changed byte of head and digest, some of the rest, every kind of cut."""
    write_kernels(path, KERNELS)
    whole = path.read_bytes()
    for place in (*range(40), 41, 5000, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert read_kernels(path) == b""
    for length in (0, 7, 8, 39, 40, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_kernels(path) == b""
    path.unlink()
    os.mkfifo(path)  # and no pipe is waited for
    assert read_kernels(path) == b""


def test_files_are_per_engine_version_and_gpu(own_cache):
    names = {cache_path(e * 64, v, g) for e in "ab" for v in ("1.7", "1.8") for g in ("A", "B")}
    assert len(names) == 8


def test_kernels_are_kept_after_new_shapes(path):
    rtx = Rtx()
    cache = RuntimeCache(rtx, path)
    assert rtx.given == [] and rtx.in_use is rtx and cache.config is rtx
    kept = []
    for number in range(1, 10):
        rtx.kernels = KERNELS[:number]
        for _ in range(2):  # the second call has no new shape
            cache.note((0, number, 224, 224))
        kept.append(len(read_kernels(path)))
    assert kept == [1, 2, 2, 4, 4, 4, 4, 8, 8]
    written = path.stat().st_mtime_ns
    cache.save()
    cache.save()
    assert read_kernels(path) == KERNELS[:9] and path.stat().st_mtime_ns >= written
    again = Rtx()
    RuntimeCache(again, path)
    assert again.given == [KERNELS[:9]]


def test_kernels_that_rtx_refuses_are_replaced(path):
    """Such as those of another driver."""
    write_kernels(path, KERNELS)
    rtx = Rtx(accepts=False)
    cache = RuntimeCache(rtx, path)
    rtx.kernels = KERNELS
    cache.note((0, 1, 32, 32))
    assert rtx.given == [KERNELS] and read_kernels(path) == KERNELS


def test_a_place_that_cannot_be_written_costs_a_line(path, capsys):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    write_kernels(path, KERNELS)
    assert "is not cached" in capsys.readouterr().err and path.is_fifo()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_engine_leaves_its_kernels(tmp_path):
    """Oracle: the ONNX file on the CPU, before and after."""
    from export.release import ExportOptions, export_onnx
    from export.tensorrt.build import build_engine
    from vgg_deploy.exported.trt_manifest import InputShape, Profile
    from vgg_deploy.exported.trt_packages import FLAVOURS

    source = save_net(thin_net("D"), tmp_path / "net.pt")
    (file,) = export_onnx(source, tmp_path, ExportOptions(), None, 1, lambda text: None)
    profile = Profile(*[InputShape(1, 32, 32)] * 2, InputShape(2, 64, 64))
    engine = build_engine(file.path, FLAVOURS["rtx"], [profile], (), lambda text: None)
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), np.uint8)
    expected = open_runtime(file.path)(images).posterior
    for _ in range(2):
        runtime = open_runtime(engine.path, "cuda")
        np.testing.assert_allclose(runtime(images).posterior, expected, rtol=0, atol=1e-4)
        assert read_kernels(runtime.kernels.path)
