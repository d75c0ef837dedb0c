import numpy as np
import pytest
import torch
from conftest import save_net, thin_net
from PIL import Image

from bench.cells import measure_cells
from bench.latency import median_interval_pct
from bench.run import measure_accuracy, open_models
from vgg_deploy.data import open_dataset
from vgg_deploy.errors import CheckFailed
from vgg_deploy.runtimes import TorchRuntime


def naive_posterior(net, path, side, mirrored) -> np.ndarray:
    """Dense evaluation step by step (section 3.2), one image at a time: Pillow, then the net in float64."""
    image = Image.open(path).convert("RGB")
    w, h = image.size
    short = min(w, h)
    size = tuple(side if v == short else int(side * v / short + 0.5) for v in (w, h))
    image = image.resize(size, Image.Resampling.BILINEAR)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image).astype(float) - np.array(net.spec.preprocessing.mean)
    with torch.inference_mode():
        score_map = net.double()(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0].numpy()
    logits = np.array([sum(score_map[c].ravel()) / score_map[c].size for c in range(len(score_map))])
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_cells_equal_a_naive_evaluation(photos):
    dataset = open_dataset(photos, "val")
    measured = measure_cells([TorchRuntime(thin_net("B"), threads=2)], dataset, (37, 64), True, 5, 2, "stop")
    assert len(measured.cells) == 4 and measured.kept.tolist() == list(range(24))
    net = thin_net("B")
    for cell, posteriors in measured.cells.items():
        for i in range(len(dataset)):
            wanted = naive_posterior(net, dataset.path(i), cell.side, cell.mirrored)
            np.testing.assert_allclose(posteriors[i], wanted, atol=1e-4)


def test_rows_equal_a_naive_evaluation(photos, tmp_path):
    """Flips, scales and both: posteriors averaged with equal weight, then one decision."""
    dataset = open_dataset(photos, "val")
    rows, skipped = measure_accuracy(open_models([save_net(thin_net("B"), tmp_path / "B.pt")], "cpu", 2), dataset, (37, 64), True, 5, 2, "stop")
    assert skipped == [] and len(rows) == 6
    net = thin_net("B")
    for row in rows:
        views = [(int(side), mirrored) for side in row.scales.split("+") for mirrored in ((False, True) if row.flips else (False,))]
        wrong = 0
        for i, label in enumerate(dataset.labels):
            posterior = sum(naive_posterior(net, dataset.path(i), *view) for view in views) / len(views)
            wrong += int(np.argmax(posterior)) != label
        assert row.top1_error_pct == pytest.approx(100 * wrong / len(dataset)), row
        assert row.top5_error_pct == 0 and row.images == 24


def test_posteriors_that_are_not_finite_are_named(photos, tmp_path):
    net = thin_net("A")
    with torch.no_grad():
        net.fc7.bias.fill_(float("inf"))
    with pytest.raises(CheckFailed, match=r"A.pt at Q=64: NaN or infinite posteriors on 24 of 24 images, the first is val/disc/000.jpeg") as failed:
        measure_accuracy(open_models([save_net(net, tmp_path / "A.pt")], "cpu", 2), open_dataset(photos, "val"), (64,), False, 5, 2, "stop")
    assert failed.value.exit_code == 1


def test_the_interval_of_the_median_covers_it_19_times_of_20():
    """Oracle: repeated draws from a skewed distribution whose median is known."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(3000):
        ms = np.sort(rng.exponential(1, 60))
        n = len(ms)
        width = median_interval_pct(ms) / 100 * np.median(ms)
        low = int(np.floor((n - 1.96 * np.sqrt(n)) / 2))
        assert width == pytest.approx(ms[n - low] - ms[low - 1])
        hits += ms[low - 1] <= np.log(2) <= ms[n - low]
    assert 0.94 < hits / 3000 < 0.985
    assert median_interval_pct(np.ones(5)) == 0 or median_interval_pct(np.ones(3)) == 100
