"""Streams of images: posteriors against a naive evaluation, order, batches and memory."""

import numpy as np
import pytest

from tests.support.naive import Naive
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError, UnreadableImage
from vgg_deploy.images.protocols import PROTOCOLS
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.predict import stream
from vgg_deploy.predict.model import load
from vgg_deploy.predict.stream import ViewPlan, posteriors
from vgg_deploy.runtimes import Scores


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_equals_the_naive_evaluation(protocol, noisy, tmp_path):
    net = thin_net("B", seed=2)
    model = load(save_net(net, tmp_path / "B.pt"), threads=1)
    naive = Naive(thin_net("B", seed=2))
    sides = (37, 41, 46, 50) if protocol == "googlenet" else (32, 45)  # its own: 32 * 8/7, ...
    asked = None if protocol == "googlenet" else sides
    for flips in (False, True):
        found = model.predict(noisy, protocol=protocol, side=asked, flips=flips, batch=3)
        turned = PROTOCOLS[protocol].flips != (False,) and (
            flips or PROTOCOLS[protocol].flips == (True,)
        )
        expected = [naive.protocol(path, protocol, sides, turned) for path in noisy]
        np.testing.assert_allclose(found.posterior, expected, atol=2e-6)
        assert found.images == tuple(map(str, noisy))


class Counting:
    """A runtime whose posterior is the mean grey of the image; it notes the shape of each call."""

    where, outputs = "counting", SCORES

    def __init__(self):
        self.spec = thin_net("A").spec
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        mean = images.mean(axis=(1, 2, 3)).astype(np.float32)
        return Scores(np.stack([mean] * 4, axis=1), np.zeros((len(images), 4, 1, 1), np.float32))


def image_of(value, height=32):
    return {32: np.full((3, height, 32), value, np.uint8)}


def settings(batch=4):
    return ViewPlan("dense", (32,), False, batch)


def test_results_keep_the_order_and_batches_have_one_size():
    """Images of three sizes in turn; the oracle is the value of each image."""
    runtime = Counting()
    images = [image_of(i % 251, 32 + i % 3) for i in range(100)]
    found = list(posteriors(runtime, images, settings()))
    assert [one.number for one in found] == list(range(100))
    assert [one.posterior[0] for one in found] == [i % 251 for i in range(100)]
    sizes = [shape[0] for shape in runtime.shapes]
    assert sum(sizes) == 100 and sizes.count(4) == 24 and len(sizes) == 27


def test_a_rare_size_holds_back_no_more_than_a_window(monkeypatch):
    """Of a stream without end: results of image n are there when image n + WINDOW was read."""
    monkeypatch.setattr(stream, "WINDOW", 10)
    read = []

    def endless():
        number = 0
        while True:
            read.append(number)
            yield image_of(number % 251, 40 if number == 5 else 32)
            number += 1

    results = posteriors(Counting(), endless(), settings())
    for expected in range(200):
        assert next(results).number == expected
        assert len(read) <= expected + 1 + 10 + 4


def test_pixels_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(stream, "MOST_WAITING_BYTES", 3 * 3 * 32 * 32)
    runtime = Counting()
    found = list(posteriors(runtime, [image_of(i, 32 + i) for i in range(20)], settings()))
    assert [one.posterior[0] for one in found] == list(range(20))
    assert all(shape[0] == 1 for shape in runtime.shapes)


def test_unreadable_images_keep_their_place():
    bad = UnreadableImage("x.jpg: damaged")
    found = list(posteriors(Counting(), [image_of(1), bad, image_of(3)], settings()))
    assert found[1].posterior is bad
    assert [found[0].posterior[0], found[2].posterior[0]] == [1, 3]


def test_posteriors_that_are_not_finite_are_no_result():
    class Broken(Counting):
        def __call__(self, images):
            scores = super().__call__(images)
            return scores._replace(posterior=scores.posterior * np.nan)

    with pytest.raises(CheckFailed, match="counting: gives posteriors that are not finite"):
        list(posteriors(Broken(), [image_of(1)], settings()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "tenfold"}, "protocol 'tenfold' is unknown; choose from dense"),
        ({"sides": 31}, "Q 31 is below the crop 32"),
        ({"sides": ()}, "no Q is named"),
        ({"protocol": "googlenet", "sides": 64}, "has scales of its own; state no Q"),
        ({"batch": 0}, "a batch of 0 images is empty"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InputError, match=message):
        ViewPlan.of(thin_net("A").spec, **given)


def test_the_default_scale_is_the_papers_rule():
    assert ViewPlan.of(thin_net("A").spec).sides == (48,)  # the middle of S in [32;64]
