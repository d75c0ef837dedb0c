"""The rescale inside the graph, in ONNX Runtime. Oracle: Pillow's own pixels."""

from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from export.onnx import rescale
from export.onnx.rescale import rescale_nodes
from vgg_deploy.exported.interface import PIXELS
from vgg_deploy.images.crops import centre
from vgg_deploy.images.geometry import rescaled_size

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# (height, width): one pixel, tiny, thin, odd, tall and wide beyond 1:2, as large as a photo
SIZES = (
    (1, 1), (1, 100), (100, 1), (2, 3), (17, 31), (31, 17), (64, 64), (65, 63), (47, 141),
    (233, 47), (640, 37), (37, 640), (375, 500), (500, 375), (1080, 1920), (1201, 599), (1200, 600),
    (1199, 600),
)  # fmt: skip


def session(side: int, filter: str, crop: int | None = None, opset: int = 17):
    nodes = rescale_nodes("image", side, filter, crop)
    graph = helper.make_graph(
        nodes.nodes,
        "rescale",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["n", 3, "a", "b"])],
        [numpy_helper.from_array(array, name) for name, array in nodes.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@cache
def noise(height: int, width: int, extreme: bool = False) -> np.ndarray:
    """(2, H, W, 3) uint8: any levels, or black and white, for which sums leave the bytes."""
    rng = np.random.default_rng(height * 10_000 + width)
    if extreme:
        return (255 * rng.integers(0, 2, (2, height, width, 3))).astype(np.uint8)
    return rng.integers(0, 256, (2, height, width, 3), np.uint8)


def by_pillow(image: np.ndarray, side: int, filter: str) -> np.ndarray:
    """(3, h, w)."""
    height, width = rescaled_size(*image.shape[:2], side)
    resized = Image.fromarray(image).resize((width, height), FILTERS[filter])
    return np.asarray(resized).transpose(2, 0, 1)


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize(("filter", "side"), [("bilinear", 96), ("bicubic", 47)])
def test_every_value_is_pillows(filter, side, opset):
    run = session(side, filter, opset=opset)
    for size in SIZES:
        images = noise(*size, extreme=filter == "bicubic")
        (found,) = run.run([PIXELS], {"image": images})
        for image, pixels in zip(images, found, strict=True):
            np.testing.assert_array_equal(pixels, by_pillow(image, side, filter), str(size))


@pytest.mark.slow
@pytest.mark.parametrize("filter", FILTERS)
def test_random_sizes(filter):
    rng = np.random.default_rng(11)
    for side in (32, 224, 256):
        run = session(side, filter, opset=20)
        for _ in range(12):
            height, width = (int(size) for size in np.exp(rng.uniform(0, 6, 2)))
            if max(height, width) > 100 * min(height, width):
                continue
            images = noise(height, width)[:1]
            (found,) = run.run([PIXELS], {"image": images})
            expected = by_pillow(images[0], side, filter)
            np.testing.assert_array_equal(found[0], expected, f"{height}x{width} to {side}")


def test_the_centre_crop_is_the_protocols():
    """Oracle: the crop that the protocol `centre` cuts out of Pillow's pixels."""
    run = session(49, "bilinear", crop=32)
    for size in ((60, 60), (61, 140), (140, 61), (50, 49), (333, 200)):
        (found,) = run.run([PIXELS], {"image": noise(*size)})
        expected = by_pillow(noise(*size)[0], 49, "bilinear")
        ((top, left, side),) = centre(*expected.shape[1:], 32)
        np.testing.assert_array_equal(
            found[0], expected[:, top : top + side, left : left + side], str(size)
        )


def test_tall_images_follow_the_installed_pillow(monkeypatch):
    """Before version 13 the width came first always. Oracle: two calls of Pillow, one per axis."""
    monkeypatch.setattr(rescale, "tall_first", lambda: False)
    image = noise(233, 47)[0]
    (found,) = session(32, "bilinear").run([PIXELS], {"image": image[None]})
    height, width = rescaled_size(233, 47, 32)
    narrow = Image.fromarray(image).resize((width, 233), FILTERS["bilinear"])
    expected = np.asarray(narrow.resize((width, height), FILTERS["bilinear"]))
    np.testing.assert_array_equal(found[0], expected.transpose(2, 0, 1))
