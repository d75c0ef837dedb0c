"""The pieces of training, each against numbers worked out another way."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.nets import save_net, thin_net, thin_spec
from train import first_weights
from train.feed.augment import Augmentation, centre_crop, random_view
from train.feed.colour_statistics import Colours, measure_colours
from train.feed.epoch_order import EpochBatches
from train.feed.frozen_features import Extraction, pool5_features
from train.feed.loader import train_batches
from train.feed.views import Views, collate
from train.recipe.config import RECIPES, TrainConfig
from train.recipe.learning_rate import learning_rate
from train.step.health import Health
from train.step.update import sgd
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.model import FROM_A

NO_SHIFT = np.zeros((3, 3))


def augmentation(side: tuple[int, int], components: np.ndarray = NO_SHIFT) -> Augmentation:
    return Augmentation(32, side, "bilinear", components, sigma=0.1)


def test_the_paper_recipe_is_the_papers():
    paper = RECIPES["paper"]
    assert (paper.batch, paper.lr, paper.momentum) == (256, 1e-2, 0.9)
    assert (paper.weight_decay, paper.dropout) == (5e-4, 0.5)
    assert (paper.width, paper.crop, paper.side) == (1.0, 224, (256, 256))
    assert round(370_000 * 256 / 1_281_167) == paper.epochs == 74


def test_the_rate_drops_on_plateaus_three_times_at_most():
    config = TrainConfig(patience=2)

    def rates(errors):
        return [round(np.log10(learning_rate(config, errors[:n]))) for n in range(len(errors) + 1)]

    assert rates([50, 40, 30, 20]) == [-2] * 5
    assert rates([50, 51, 50, 49, 49, 49]) == [-2, -2, -2, -3, -3, -3, -4]
    assert rates([50] * 12)[-1] == -5  # 1e-2 -> 1e-5 and no further


def test_the_rate_drops_after_given_epochs():
    config = TrainConfig(lr_drops=(2, 3))
    assert [learning_rate(config, [1.0] * n) for n in range(5)] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-4, 1e-4]
    )


def test_crops_are_uniform_over_valid_offsets_and_half_are_mirrored():
    """Oracle: an image whose pixels are their own coordinates, so that a crop shows its place."""
    rows, columns = np.mgrid[:40, :48]
    image = Image.fromarray(np.dstack([rows, columns, 0 * rows]).astype(np.uint8))
    rng = np.random.default_rng(0)
    crops = [random_view(image, augmentation((40, 40)), rng).crop for _ in range(4000)]
    tops = np.bincount([int(crop[0, 0, 0]) for crop in crops], minlength=9)
    mirrored = [bool(crop[1, 0, 0] > crop[1, 0, -1]) for crop in crops]
    lefts = np.bincount([int(crop[1, 0].min()) for crop in crops], minlength=17)
    assert len(tops) == 9 and tops.min() > 4000 / 9 * 0.8
    assert len(lefts) == 17 and lefts.min() > 4000 / 17 * 0.7
    assert 0.46 < np.mean(mirrored) < 0.54
    for crop in crops[:50]:
        assert crop.shape == (3, 32, 32)
        assert int(crop[0, -1, 0]) - int(crop[0, 0, 0]) == 31


def test_s_is_drawn_per_image_from_the_closed_range():
    """Oracle: rows count up by 4.

    So a crop's step from row to row shows how much the image was enlarged.
    """
    image = Image.fromarray(np.tile(4 * np.arange(40, dtype=np.uint8)[:, None], (40, 1, 3)))
    rng = np.random.default_rng(1)
    sides = []
    for _ in range(600):
        row = random_view(image, augmentation((40, 60)), rng).crop[0, 16].float()
        sides.append(4 * 40 * 21 / abs(float(row[26] - row[5])))
    assert 39 < min(sides) < 42 and 57 < max(sides) < 62
    assert 49 < np.mean(sides) < 51.5 and np.std(sides) > 5


@pytest.mark.slow
def test_the_colour_shift_is_one_per_image_along_the_principal_axes():
    """Oracle: the covariance of many shifts is 0.1^2 times the covariance of the colours."""
    covariance = np.array([[3000.0, 2500, 2000], [2500, 2800, 2300], [2000, 2300, 2900]])
    components = Colours(np.zeros(3), covariance, 1).components()
    image, rng = Image.new("RGB", (32, 32)), np.random.default_rng(2)
    drawn = augmentation((32, 32), components)
    shifts = np.array([random_view(image, drawn, rng).shift for _ in range(20000)])
    np.testing.assert_allclose(np.cov(shifts.T), 0.01 * covariance, rtol=0.06)
    assert np.abs(shifts).max() < 40  # grey levels, not hundreds


def test_the_mean_colour_and_its_axes(photos):
    """Oracle: Pillow and np.cov, one image at a time; images count alike whatever their size."""
    dataset = open_dataset(photos, "train")
    colours = measure_colours(dataset, threads=2)
    means, seconds = [], []
    for i in range(len(dataset)):
        pixels = np.asarray(Image.open(dataset.path(i)).convert("RGB")).reshape(-1, 3).astype(float)
        means.append(pixels.mean(0))
        seconds.append(pixels.T @ pixels / len(pixels))
    mean = np.mean(means, 0)
    covariance = np.mean(seconds, 0) - np.outer(mean, mean)
    np.testing.assert_allclose(colours.mean, mean, atol=0.2)
    np.testing.assert_allclose(colours.covariance, covariance, rtol=0.02, atol=20)
    components = colours.components()
    np.testing.assert_allclose(components @ components.T, colours.covariance, rtol=1e-6)
    again = measure_colours(dataset, threads=1)  # from the cache
    np.testing.assert_array_equal(again.mean, colours.mean)


def test_an_epoch_takes_every_image_once_in_a_new_order():
    batches = list(EpochBatches(images=50, batch=8, epochs=2, seed=3, begin=0))
    assert len(batches) == 12
    first = [index for batch in batches[:6] for _, index in batch]
    second = [index for batch in batches[6:] for _, index in batch]
    assert len(set(first)) == len(set(second)) == 48
    assert first != second
    assert list(EpochBatches(50, 8, 2, seed=3, begin=7)) == batches[7:]
    assert list(EpochBatches(50, 8, 2, seed=4, begin=0)) != batches


def test_views_do_not_depend_on_the_number_of_workers(photos):
    dataset = open_dataset(photos, "train")
    config = TrainConfig(arch="A", crop=32, side=(32, 64), batch=16, epochs=1)
    views = Views(dataset, config, thin_spec().preprocessing, np.eye(3) * 20)
    none, two = (list(train_batches(views, 0, workers, pin=False)) for workers in (0, 2))
    for one, other in zip(none, two, strict=True):
        assert torch.equal(one.crops, other.crops)
        assert torch.equal(one.shifts, other.shifts)
        assert torch.equal(one.labels, other.labels)


def test_an_unreadable_image_is_skipped_in_its_batch_by_name(photos_copy):
    (photos_copy / "train" / "disc" / "000.jpeg").write_bytes(b"")
    dataset = open_dataset(photos_copy, "train")
    views = Views(
        dataset, TrainConfig(arch="A", crop=32, side=(32, 32)), thin_spec().preprocessing, NO_SHIFT
    )
    index = next(i for i in range(len(dataset)) if dataset.files[i].endswith("disc/000.jpeg"))
    batch = collate([views[0, index], views[0, index + 1]])
    assert len(batch.labels) == 1 and len(batch.unreadable) == 1
    assert "000.jpeg" in batch.unreadable[0]


def test_weight_decay_and_momentum_are_the_papers_update():
    """Oracle: v <- 0.9 v + g + 5e-4 w, w <- w - lr v by hand; biases without decay."""
    layer = torch.nn.Linear(2, 1)
    optimiser = sgd(layer, TrainConfig(lr=0.1))
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    v_w, v_b = torch.zeros_like(w), torch.zeros_like(b)
    x = torch.tensor([[1.0, -2.0]])
    for _ in range(4):
        optimiser.zero_grad()
        layer(x).sum().backward()
        optimiser.step()
        v_w, v_b = 0.9 * v_w + x + 5e-4 * w, 0.9 * v_b + 1
        w, b = w - 0.1 * v_w, b - 0.1 * v_b
    torch.testing.assert_close(layer.weight.detach(), w)
    torch.testing.assert_close(layer.bias.detach(), b)


def test_a_deeper_net_takes_a_trained_as_layers_by_name(tmp_path):
    net_a, net_e = thin_net("A", seed=1), thin_net("E", seed=2)
    before = {name: tensor.clone() for name, tensor in net_e.state_dict().items()}
    message = first_weights.copy_from_a(net_e, save_net(net_a, tmp_path / "A.pt"))
    for name, tensor in net_e.state_dict().items():
        layer = name.split(".")[0]
        expected = net_a.state_dict()[name] if layer in FROM_A else before[name]
        assert torch.equal(tensor, expected), name
        assert (layer in message) == (layer in FROM_A)


def test_a_net_that_is_not_a_matching_a_is_refused(tmp_path):
    net_d = thin_net("D")
    with pytest.raises(InputError, match="is net B; --net-a takes a trained A"):
        first_weights.copy_from_a(net_d, save_net(thin_net("B"), tmp_path / "B.pt"))
    with pytest.raises(InputError, match="another width, crop or classes"):
        first_weights.copy_from_a(
            net_d, save_net(thin_net("A", classes=("x", "y")), tmp_path / "A.pt")
        )


def test_weights_of_a_file_start_every_layer_but_a_head_of_other_classes(tmp_path):
    source, net = thin_net("D", seed=1), thin_net("D", seed=2, classes=("x", "y", "z"))
    fc8 = net.fc8.weight.clone()
    message = first_weights.load_what_fits(net, save_net(source, tmp_path / "D.pt"))
    assert torch.equal(net.fc7.weight, source.fc7.weight) and torch.equal(net.fc8.weight, fc8)
    assert "15 layers" in message and "fc8 start random" in message
    with pytest.raises(InputError, match="conv1_2.weight .* no such layer"):
        first_weights.load_what_fits(thin_net("A"), tmp_path / "D.pt")


def extraction(net, lines: list[str] | None = None) -> Extraction:
    log = print if lines is None else lines.append
    return Extraction(net, side=48, device="cpu", threads=2, on_error="stop", log=log)


def test_cached_features_are_pool5_of_the_centre_crop(photos):
    dataset, net = open_dataset(photos, "val"), thin_net("B")
    lines: list[str] = []
    for _ in range(2):  # computed, then from the cache
        features = pool5_features(dataset, extraction(net, lines)).values
    assert len(lines) == 1 and "24 training images are computed once" in lines[0]
    assert features.shape == (len(dataset), 32, 1, 1) and features.dtype == np.float16
    mean = torch.tensor(net.spec.preprocessing.mean).view(3, 1, 1)
    for i in (0, 5, 23):
        image = Image.open(dataset.path(i)).convert("RGB")
        short = min(image.size)
        size = tuple(48 if v == short else int(48 * v / short + 0.5) for v in image.size)
        rescaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(rescaled.transpose(2, 0, 1).copy())
        with torch.inference_mode():
            expected = net.trunk((centre_crop(pixels, 32).float() - mean)[None])[0]
        tolerance = 2e-2 * float(expected.max())
        np.testing.assert_allclose(features[i], expected, rtol=2e-2, atol=tolerance)


@pytest.mark.slow
def test_another_trunk_or_another_image_makes_other_features(photos_copy):
    dataset = open_dataset(photos_copy, "val")
    first = np.array(pool5_features(dataset, extraction(thin_net("B", seed=1))).values)
    second = np.array(pool5_features(dataset, extraction(thin_net("B", seed=2))).values)
    assert np.abs(first.astype(float) - second).max() > 0.1
    other = photos_copy / "val" / dataset.classes[0] / "000.jpeg"
    Image.new("RGB", (64, 64), (250, 10, 10)).save(other)
    dataset = open_dataset(photos_copy, "val")
    changed = np.array(pool5_features(dataset, extraction(thin_net("B", seed=1))).values)
    assert np.abs(first.astype(float) - changed)[0].max() > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": (200, 256)}, "224 <= low <= high"),
        ({"side": (512, 256)}, "224 <= low <= high"),
        ({"crop": 100}, "not a multiple of 32"),
        ({"init": "xavier"}, "choose one of paper-std"),
        ({"batch": 0}, "--batch 0 is too small, expected a whole number from 1 to 1000000"),
        ({"lr": -1.0}, "--lr -1.0 is too small, expected a number above 0"),
    ],
)
def test_a_recipe_is_checked_when_made(change, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**change)


def add_losses(health: Health, until: int, loss: float, first: int = 1) -> None:
    """The same loss at each step, from the first to the last."""
    for step in range(first, until + 1):
        health.after_step(step, loss)


def test_a_net_that_stands_still_is_warned_of_once_at_update_1000():
    warnings: list[str] = []
    health = Health(10, "paper-std", warnings.append)
    add_losses(health, 999, 2.302)
    assert not warnings
    add_losses(health, 3000, 2.302, first=1000)
    assert len(warnings) == 1
    assert (
        "the last 100 of 1000 updates the mean loss is 2.302; guessing gives 2.303" in warnings[0]
    )


def test_a_net_that_learns_is_not_warned_of_until_it_falls_back_to_guessing():
    warnings: list[str] = []
    health = Health(1000, "he", warnings.append)
    add_losses(health, 800, 6.9)  # sound nets stand still at first
    add_losses(health, 3000, 6.7, first=801)
    assert not warnings
    add_losses(health, 4000, 6.907, first=3001)
    assert len(warnings) == 1 and "of 4000 updates" in warnings[0]


def test_a_resumed_run_is_judged_by_enough_updates_only():
    warnings: list[str] = []
    health = Health(10, "he", warnings.append)
    add_losses(health, 1000, 2.303, first=951)
    assert not warnings
    add_losses(health, 2000, 2.303, first=1001)
    assert len(warnings) == 1
