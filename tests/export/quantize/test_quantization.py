"""8-bit arithmetic, calibration and sensitivity against closed forms and naive loops."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from export.quantize import winograd
from export.quantize.calibration import calibrate, read_calibration
from export.quantize.calibration_images import open_calibration_images
from export.quantize.photos_by_layer import LEAST, spread_order
from export.quantize.ranges import BINS, Range, clip, measure_ranges
from export.quantize.rounding import (
    LAST,
    Quantization,
    input_mapping,
    layer_as,
    quantize_weight,
    rounded_input,
    weight_scales,
)
from export.quantize.sensitivity import measure_sensitivity
from export.settings.export_options import METHOD_NAMES
from export.settings.precision import PRECISIONS
from tests.support.nets import CLASSES, thin_net
from vgg_deploy.errors import InputError

INT8, UINT8, FP8 = (PRECISIONS[name] for name in ("int8", "int8-cpu", "fp8"))


def test_int8_rounds_halves_to_even_and_clips():
    mapping = input_mapping("conv2_1", 127.0, UINT8)._replace(scale=1.0)
    values = torch.tensor([0.0, 0.5, 1.5, 2.5, 254.6, 300.0, -3.0])
    expected = [0, 0, 2, 2, 255, 255, 0]  # unsigned: zero is the lowest value
    assert rounded_input(values, mapping).tolist() == expected
    centred = input_mapping("conv1_1", 127.0, UINT8)
    assert (centred.scale, centred.zero_point) == (1.0, 128)
    values = torch.tensor([-200.0, -1.2, 126.6, 200.0])
    assert rounded_input(values, centred).tolist() == [-128, -1, 127, 127]
    signed = input_mapping("conv2_1", 127.0, INT8)
    assert rounded_input(torch.tensor([-200.0, 0.4, 200.0]), signed).tolist() == [-128, 0, 127]


def test_fp8_has_the_values_of_e4m3():
    """Written out: 3 bits of mantissa, exponents -6 to 8, no infinity, 448 the largest."""
    normal = [(1 + m / 8) * 2.0**e for e in range(-6, 9) for m in range(8)]
    subnormal = [m / 8 * 2.0**-6 for m in range(8)]
    known = np.array(sorted({*subnormal, *(v for v in normal if v <= 448)}))
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 500, 2000)
    mapping = input_mapping("conv2_1", 448.0, FP8)
    found = rounded_input(torch.from_numpy(values).float(), mapping).numpy()
    clipped = np.minimum(values.astype(np.float32), 448)
    nearest = np.abs(known[None] - clipped[:, None]).min(1)
    np.testing.assert_allclose(np.abs(found - clipped), nearest, atol=1e-4)
    assert set(found.tolist()) <= set(known.tolist())


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("precision", [INT8, UINT8, FP8], ids=lambda p: p.name)
def test_weights_are_nearest_and_symmetric(precision, per_channel):
    weight = np.random.default_rng(0).normal(0, 0.05, (600, 4, 3, 3)).astype(np.float32)
    weight[3] = 0
    scales = weight_scales(weight, precision, per_channel)
    stored = quantize_weight(weight, scales, precision)
    assert scales.shape == ((600,) if per_channel else ())
    assert scales.dtype == precision.trunk and stored.dtype == precision.weights.dtype
    step = scales.astype(np.float64).reshape(-1, 1, 1, 1) if per_channel else float(scales)
    back = stored.astype(np.float64) * step
    assert np.abs(stored.astype(np.float64)).max() <= precision.weights.largest
    assert (back[3] == 0).all()
    if precision is FP8:
        allowed = np.maximum(np.abs(weight) / 15, 2.0**-10 * step)  # half of the last of 3 bits
    else:
        allowed = 0.5005 * step  # half a step, and the rounding of the scale itself
    assert (np.abs(back - weight) <= allowed).all()


def test_a_quantized_convolution_is_the_integer_sum():
    """Oracle: the sum in Python's integers, for one output at a time."""
    conv = nn.Conv2d(3, 5, 3, padding=1)
    images = torch.rand(1, 3, 5, 4) * 7
    mapping = input_mapping("conv2_1", 6.0, UINT8)
    with torch.inference_mode():
        found = layer_as(conv, [images], UINT8, mapping, per_channel=True)[0].numpy()
    scales = weight_scales(conv.weight.detach().numpy(), UINT8, True).astype(np.float64)
    q = np.clip(np.rint(images.numpy() / np.float32(mapping.scale)), 0, 255).astype(int)
    steps = scales.astype(np.float32)[:, None, None, None]
    w = np.rint(conv.weight.detach().numpy() / steps).astype(int)
    taps = list(itertools.product(range(3), range(3), range(3)))
    for o, y, x in itertools.product(range(5), range(5), range(4)):
        total = sum(
            int(q[0, c, y + i - 1, x + j - 1]) * int(w[o, c, i, j])
            for c, i, j in taps
            if 0 <= y + i - 1 < 5 and 0 <= x + j - 1 < 4
        )
        expected = total * mapping.scale * scales[o] + conv.bias[o].item()
        assert found[0, o, y, x] == pytest.approx(expected, abs=1e-5)


def batches(count: int = 3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (2, 3, 32 + 16 * i, 48), np.uint8) for i in range(count)]


def test_ranges_are_the_histogram_of_all_inputs(monkeypatch):
    """Oracle: everything at once. Bins that widened have the counts of bins of the final width."""
    monkeypatch.setattr(winograd, "_has_nnpack", lambda: False)  # counts need the same rounding
    net = thin_net("A-LRN")
    ranges = measure_ranges(net, iter(batches()))
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    seen: dict[str, list] = {}
    with torch.inference_mode():
        for batch in batches():
            x = torch.from_numpy(batch).float() - mean
            for name, layer in net.named_children():
                if isinstance(layer, nn.Conv2d):
                    seen.setdefault(name, []).append(x.abs().flatten().numpy().copy())
                x = layer(x)
                if isinstance(layer, nn.Conv2d):
                    assert ranges[name].output_max >= float(x.abs().max()) * (1 - 1e-6)
    assert set(ranges) == set(seen)
    for name, parts in seen.items():
        values, found = np.concatenate(parts), ranges[name]
        assert found.input_max == pytest.approx(values.max()) and found.counts.sum() == len(values)
        exact = np.histogram(values, BINS, (0, found.top))[0]
        assert np.abs(np.cumsum(exact) - np.cumsum(found.counts)).max() <= 2  # values on an edge


def uniform(top: float = 1.0, outlier: float | None = None) -> Range:
    """A million values from 0 to `top`, and perhaps one far away."""
    seen = Range()
    values = torch.linspace(0, top, 1_000_000)
    seen.add(torch.cat([values, torch.tensor([outlier])]) if outlier else values)
    return seen


@pytest.mark.slow
def test_clipping_of_known_distributions():
    for method in METHOD_NAMES:
        threshold = clip({"conv2_1": uniform()}, method, INT8)["conv2_1"]
        assert threshold == pytest.approx(1, rel=0.03), method
    far = {"conv2_1": uniform(outlier=4.0)}
    assert clip(far, "max", INT8)["conv2_1"] == 4
    for method in ("mse", "percentile", "entropy"):
        assert clip(far, method, INT8)["conv2_1"] < 1.5, method
    gauss = Range()
    values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)).abs()
    gauss.add(values)
    chosen = clip({"conv2_1": gauss}, "mse", INT8)["conv2_1"]
    errors = {
        t: float(((rounded_input(values, input_mapping("conv2_1", t, INT8)) - values) ** 2).mean())
        for t in np.linspace(2, 5, 61)
    }
    # of the values themselves, not of bins
    assert chosen == pytest.approx(min(errors, key=errors.get), abs=0.25)
    threshold = clip({"conv2_1": gauss}, "percentile", INT8)["conv2_1"]
    assert threshold == pytest.approx(np.quantile(values.numpy(), 0.9999), rel=0.01)


def test_entropy_is_refused_for_fp8_and_dead_layers_are_named():
    with pytest.raises(InputError, match="entropy.*fp8.*choose max"):
        clip({"conv2_1": uniform()}, "entropy", FP8)
    dead = Range()
    dead.add(torch.zeros(10))
    with pytest.raises(InputError, match="conv3_1: saw only zeros.*--keep conv3_1"):
        clip({"conv3_1": dead}, "max", INT8)


@pytest.mark.slow
def test_a_calibration_is_reused_only_for_the_same_net_and_images(tmp_path, photos_copy):
    net, file, log = thin_net("A", classes=CLASSES), tmp_path / "A.calibration.json", []
    images = open_calibration_images(photos_copy, 12, net)
    assert len(images) == 12 and all(name.startswith("train/") for name in images.files)
    first = calibrate(net, "a" * 64, images, file, 1, log.append)
    second = calibrate(net, "a" * 64, images, file, 1, log.append)
    assert "using the calibration in" in log[-1]
    assert second.ranges["fc6"].counts.tolist() == first.ranges["fc6"].counts.tolist()
    calibrate(net, "b" * 64, images, file, 1, log.append)
    assert "calibrating on 12 images" in log[-1]
    images.path(3).write_bytes(images.path(4).read_bytes())
    calibrate(net, "b" * 64, images, file, 1, log.append)
    assert "calibrating on 12 images" in log[-2]
    assert "only 11 of 12 calibration images are different" in log[-1]
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "version": 1}))
    assert read_calibration(file) is None  # of an earlier version: measured again
    file.write_text(json.dumps({**document, "version": 0}))
    with pytest.raises(InputError, match="remove it"):
        read_calibration(file)


def test_calibration_needs_images(tmp_path):
    with pytest.raises(InputError, match="--calibration DIR is missing"):
        open_calibration_images(None, 8, thin_net("A"))
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="has no images"):
        open_calibration_images(tmp_path, 8, thin_net("A"))


@pytest.mark.slow
def test_sensitivity_finds_the_layer_whose_range_is_wrong():
    """A layer whose threshold is a hundredth of what it should be stands out.

    Oracle for one layer: hooks.
    """
    net, images = thin_net("B"), batches()
    ranges = measure_ranges(net, images)
    thresholds = {name: seen.input_max for name, seen in ranges.items() if name != LAST}
    thresholds["conv3_2"] /= 100
    rows = measure_sensitivity(net, INT8, Quantization(thresholds), images, lambda n: None)
    sqnr_db = {row.layer: row.sqnr_db for row in rows}
    others = [value for layer, value in sqnr_db.items() if layer != "conv3_2"]
    assert sqnr_db["conv3_2"] < 10 < min(others)

    name, exact, moved = "conv2_2", [], []
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    conv, step = net.get_submodule(name), np.float16(thresholds["conv2_2"] / 127).astype(np.float32)
    weight = conv.weight.detach().clone()
    for batch in images:
        with torch.inference_mode():
            exact.append(net(torch.from_numpy(batch).float() - mean).mean((2, 3)))
    hook = conv.register_forward_pre_hook(
        lambda module, args: ((args[0] / step).round().clamp(-128, 127) * step,)
    )
    steps = (weight.abs().amax((1, 2, 3)) / 127).half().float().view(-1, 1, 1, 1)
    with torch.inference_mode():
        conv.weight.copy_((weight / steps).round().clamp(-127, 127) * steps)
        conv.bias.copy_(conv.bias.half().float())
        for batch in images:
            moved.append(net(torch.from_numpy(batch).float() - mean).mean((2, 3)))
    hook.remove()
    reference, found = torch.cat(exact), torch.cat(moved)
    expected = 10 * np.log10(float((reference**2).mean() / ((found - reference) ** 2).mean()))
    assert sqnr_db[name] == pytest.approx(expected, abs=0.2)


def test_early_layers_are_tried_on_few_photos_and_the_figures_are_those_of_whole_runs():
    """Oracle: the net with one layer's weights and input rounded, on the same photos, in one run.

    The photos have two sizes, and are given in batches; a late layer is tried on more of them.
    """
    net, rng = thin_net("A"), np.random.default_rng(0)
    images = [rng.integers(0, 256, (10, 3, 40, 40 + 16 * n), np.uint8) for n in range(3)]
    ranges = measure_ranges(net, images)
    thresholds = {name: seen.input_max for name, seen in ranges.items() if name != LAST}
    rows = measure_sensitivity(net, INT8, Quantization(thresholds), images, lambda n: None)
    counts = {row.layer: row.images for row in rows}
    assert counts["conv1_1"] == LEAST < counts["conv5_2"] <= counts["fc7"] <= 30
    ranks = spread_order(30)
    photos = [image for batch in images for image in batch]
    for row in rows:
        chosen = [photos[i][None] for i in range(30) if ranks[i] < row.images]
        reference, found = whole_runs(net, row.layer, thresholds[row.layer], chosen)
        expected = 10 * np.log10(float((reference**2).mean() / ((found - reference) ** 2).mean()))
        assert row.sqnr_db == pytest.approx(expected, abs=0.3), row.layer
        agreeing = (reference.argmax(1) == found.argmax(1)).double().mean()
        assert row.agreement_pct == pytest.approx(
            100 * float(agreeing), abs=100 / row.images + 1e-9
        )


def whole_runs(net, name, threshold, images):
    """(N, classes) mean scores of the float net, and with one layer in 8 bits."""
    changed = copy.deepcopy(net)
    conv, step = changed.get_submodule(name), float(np.float16(threshold / 127))
    steps = (conv.weight.abs().amax((1, 2, 3)) / 127).half().float().view(-1, 1, 1, 1)
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    conv.register_forward_pre_hook(
        lambda module, args: ((args[0] / step).round().clamp(-128, 127) * step,)
    )
    with torch.no_grad():
        conv.weight.copy_((conv.weight / steps).round().clamp(-127, 127) * steps)
        conv.bias.copy_(conv.bias.half().float())
        inputs = [torch.from_numpy(image).float() - mean for image in images]
        return [torch.cat([one(x).mean((2, 3)) for x in inputs]) for one in (net, changed)]
