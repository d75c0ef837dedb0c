"""Trials of nets with some layers quantized, against a whole pass without anything remembered."""

import numpy as np
import pytest
import torch

from export.limit.trials import MOST_BYTES, Trials
from export.quantize.convolve import layers_of, net_input
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization, ReducedNet, layer_as, stored_layer
from export.settings.precision import PRECISIONS
from tests.support.nets import thin_net

RNG = np.random.default_rng(0)
BATCHES = [RNG.integers(0, 256, (n, 3, 32 + 16 * n, 48), np.uint8) for n in (1, 2)]


def quantization_of(net, precision, keep=()):
    thresholds = clip(measure_ranges(net, BATCHES), "max", precision)
    last = thresholds.pop(LAST)
    kept = {name: t for name, t in thresholds.items() if name not in keep}
    return Quantization(kept, True, last if precision.fused else None)


def whole_pass(net, precision, quantization, kept) -> np.ndarray:
    """Oracle: the reference of the check of files, step by step."""
    thresholds = {n: t for n, t in quantization.thresholds.items() if n not in kept}
    reduced = ReducedNet(net, precision, Quantization(thresholds, True, quantization.last_input))
    found = []
    for batch in BATCHES:
        steps = reduced.steps([net_input(batch, net.spec)])
        name, (rows,) = next(steps)
        try:
            while True:
                name, (rows,) = steps.send([rows.values])
        except StopIteration:
            assert name == LAST
        found.append(rows.values.mean((2, 3)).numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("arch", ["A-LRN", "C"])
@pytest.mark.parametrize("precision", ["int8-cpu", "int8", "fp8"])
@pytest.mark.parametrize("most_bytes", [0, 40_000, MOST_BYTES])
def test_a_trial_is_a_whole_pass(arch, precision, most_bytes):
    net, format = thin_net(arch), PRECISIONS[precision]
    quantization = quantization_of(net, format, keep=("conv2_1",))
    trials = Trials(net, format, quantization, BATCHES, most_bytes)
    assert "conv2_1" not in trials.names and LAST not in trials.names
    rng = np.random.default_rng(1)
    for turn in range(6):
        kept = frozenset(n for n in trials.names if rng.random() < 0.5)
        shares = []
        found = trials.scores(kept, shares.append)
        expected = whole_pass(net, format, quantization, kept)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
        assert sum(shares) == pytest.approx(1)
        if turn % 2:
            trials.hold()


def test_only_the_tail_is_computed_again():
    """Counted in convolutions: A has 8 and three fully connected layers."""
    net, precision = thin_net("A"), PRECISIONS["int8-cpu"]
    trials = Trials(net, precision, quantization_of(net, precision), BATCHES)

    def work(*kept) -> int:
        before = trials.layers_run
        trials.scores(frozenset(kept))
        return trials.layers_run - before

    assert work() == 11
    trials.hold()
    assert work("fc7") == 2  # fc7 and fc8
    assert work("conv5_2") == 5  # from the start of stage 5
    assert work("conv5_2", "fc7") == 2
    assert work("conv1_1") == 11
    assert work("fc6") == 3  # of the trial that is held, not of the last one
    few = Trials(net, precision, quantization_of(net, precision), BATCHES, most_bytes=0)
    few.scores(frozenset())
    few.scores(frozenset(("fc7",)))
    assert few.layers_run == 22


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("precision", ["int8-cpu", "int8", "fp8"])
def test_stored_weights_are_those_of_a_layer(precision, per_channel):
    net, format = thin_net("A"), PRECISIONS[precision]
    layer = dict(layers_of(net))["conv3_1"]
    values = torch.rand(1, layer.in_channels, 6, 5)
    weight, bias = stored_layer(layer, format, None, per_channel)
    with torch.inference_mode():
        found = torch.nn.functional.conv2d(values, weight, bias, padding=1)
        (expected,) = layer_as(layer, [values], format, None, per_channel)
    torch.testing.assert_close(found, expected)
