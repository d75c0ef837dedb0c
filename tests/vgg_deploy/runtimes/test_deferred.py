"""A deferred runtime describes its file as the opened one does, and opens it when it is called."""

import os

import numpy as np
import pytest

from tests.support.nets import thin_net
from tests.support.written import written_onnx
from vgg_deploy.errors import InputError
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.deferred import deferred_onnx, opened

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 56), np.uint8)


def deferred(path, calls=None):
    def open_now():
        if calls is not None:
            calls.append(path)
        return open_runtime(path)

    return deferred_onnx(path, 1, open_now)


def test_it_describes_the_file_and_answers_as_the_opened_one(tmp_path):
    """Oracle: the runtime that opens at once."""
    path, calls = written_onnx(tmp_path / "A.onnx", thin_net("A")), []
    late, now = deferred(path, calls), open_runtime(path)
    for name in ("spec", "outputs", "name", "precision", "device", "threads", "where"):
        assert getattr(late, name) == getattr(now, name), name
    assert (late.artifact, dict(late.settings)) == (now.artifact, dict(now.settings))
    assert calls == []
    for a, b in zip(late(IMAGES), now(IMAGES), strict=True):
        np.testing.assert_array_equal(a, b)
    found = late.run(IMAGES, ("score_map",))["score_map"]
    np.testing.assert_array_equal(found, now(IMAGES).score_map)
    assert calls == [path] and opened(late) is opened(late) and opened(now) is now


def test_a_file_that_changes_before_it_is_called_is_refused(tmp_path):
    path = written_onnx(tmp_path / "A.onnx", thin_net("A"))
    late = deferred(path)
    written_onnx(tmp_path / "other.onnx", thin_net("A", seed=1))
    os.replace(tmp_path / "other.onnx", path)
    with pytest.raises(InputError, match="another process changed it"):
        late(IMAGES)


def test_files_without_a_description_and_damaged_ones(tmp_path):
    path = written_onnx(tmp_path / "A.onnx", thin_net("A"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"vgg_deploy", b"vgg_destroy"[:10]))
    assert deferred(path) is None
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a model that ONNX Runtime can load"):
        deferred(path)
