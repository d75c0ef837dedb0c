"""Drawings and events of training, against the tables that the run wrote."""

import math
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests.support.commands import THIN
from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from train.feed.augment import Augmentation, random_view
from train.feed.colour_statistics import measure_colours
from train.plot import main as plot
from train.record.curves import apart, comparison, curves, draw_curves
from train.record.history import read_histories
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import read_image

pytestmark = pytest.mark.slow

TABLES = ("metrics.csv", "steps.csv")


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run of three epochs of six updates, the rate divided after the second, and its output."""
    folder = tmp_path_factory.mktemp("trained") / "A"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VGG_DEPLOY_CACHE", str(folder.parent / "cache"))
        output = run(
            train,
            *options(f"--arch A --data {photos}"),
            *THIN,
            *options(f"--epochs 3 --lr-drops 2 --lr 0.003 --tensorboard --out {folder}"),
        )
    return folder, output


@pytest.fixture
def copied(trained, tmp_path):
    """The same run, to be damaged."""
    return shutil.copytree(trained[0], tmp_path / "run")


def line(axes, label: str, which: int = 0) -> np.ndarray:
    """(points, 2) of a drawn line."""
    return [found for found in axes.get_lines() if found.get_label() == label][which].get_xydata()


def level(axes, label: str, at: float, which: int = 0) -> float:
    return float(np.interp(at, *line(axes, label, which).T))


def texts(axes) -> str:
    return "\n".join(text.get_text() for text in axes.texts)


# --- Curves ---


@pytest.mark.slow
def test_a_run_draws_its_tables(trained):
    folder, output = trained
    assert f"Curves: {folder}/curves.png" in output
    with Image.open(folder / "curves.png") as image:
        assert image.format == "PNG" and min(image.size) > 1000
    epochs, steps = (pd.read_csv(folder / name) for name in TABLES)
    loss, error, rate = curves(read_histories(folder), "title").axes
    np.testing.assert_allclose(line(loss, "running loss"), steps[["step", "train_loss"]])
    np.testing.assert_allclose(
        line(error, "running training top-1"), steps[["step", "train_top1_error_pct"]]
    )
    for name in ("top1", "top5"):
        np.testing.assert_allclose(
            line(error, f"validation top-{name[-1]}"), epochs[["step", f"val_{name}_error_pct"]]
        )
    for middle, row in zip(
        (3, 9, 15), epochs.itertuples(), strict=True
    ):  # an epoch's mean is level over its six updates
        assert level(loss, "loss of epochs", middle) == row.train_loss
        assert level(error, "training top-1", middle) == row.train_top1_error_pct
        assert level(rate, "learning rate", middle) == pytest.approx(
            0.003 if row.epoch < 3 else 0.0003
        )
    lowest = epochs[epochs.val_top1_error_pct == epochs.val_top1_error_pct.min()].iloc[-1]
    assert line(error, "best").tolist() == [[lowest.step, lowest.val_top1_error_pct]]
    assert line(loss, "equal scores")[:, 1].tolist() == [math.log(4)] * 2 and "ln 4" in texts(loss)
    assert rate.get_yscale() == "log" and [tick.get_text() for tick in rate.get_yticklabels()] == [
        "0.0003",
        "0.003",
    ]
    assert rate.get_xlim() == loss.get_xlim() == (0, 18)
    last = epochs.iloc[-1]
    assert f"epoch means  {last.train_loss:.2f}" in texts(
        loss
    ) and f"validation top-5  {last.val_top5_error_pct:.1f}" in texts(error)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_chain_draws_its_stages_one_after_another(here, photos):
    thin = [a for a in THIN if a not in ("--side", "32:64")]
    output = run(
        train,
        *options(f"--arch D --chain paper --data {photos}"),
        *thin,
        *options("--epochs 2 --out paper"),
    )
    assert (
        "The chain's curves: paper/curves.png" in output
        and (here / "paper" / "curves.png").is_file()
    )
    assert all((here / "paper" / name / "curves.png").is_file() for name in ("A-256", "D-jitter"))
    loss, error, rate = curves(read_histories(here / "paper"), "title").axes
    # two epochs of six updates each from scratch, one for the same net at another S; S is in
    # proportion to the crop of 32
    starts = {
        "A-256": (0, "S=37"),
        "D-256": (12, "S=37"),
        "D-384": (24, "S=55"),
        "D-jitter": (30, "S in [37;73]"),
    }
    for axes in (loss, error, rate):
        assert axes.get_xlim() == (0, 36)
        for name in ("D-256", "D-384", "D-jitter"):
            assert line(axes, f"start of {name}")[:, 0].tolist() == [starts[name][0]] * 2
    for which, (name, (start, s)) in enumerate(starts.items()):
        epochs = pd.read_csv(here / "paper" / name / "metrics.csv")
        np.testing.assert_allclose(
            line(error, "validation top-1", which),
            np.c_[start + epochs.step, epochs.val_top1_error_pct],
        )
        assert level(loss, "loss of epochs", start + 3, which) == epochs.train_loss[0]
        label = next(text for text in loss.texts if text.get_text() == f"{name}\n{s}")
        assert label.get_position()[0] == start + 6 * len(epochs) / 2
    before = (here / "paper" / "curves.png").read_bytes()
    (here / "paper" / "D-jitter" / "metrics.csv").write_text(
        (here / "paper" / "D-jitter" / "metrics.csv").read_text().split("\n")[0] + "\n"
    )
    assert "Curves: paper/curves.png" in run(
        train, "--plot", "paper"
    )  # a stage without an epoch waits
    assert (here / "paper" / "curves.png").read_bytes() != before and len(
        read_histories(here / "paper")
    ) == 3


def test_a_line_that_is_being_written_is_left_out(copied):
    with open(copied / "steps.csv", "a") as file:
        file.write("24,4,0.00")
    assert read_histories(copied)[0].steps.step.tolist() == [6, 12, 18]


def replacing(old: bytes, new: bytes):
    return lambda table: table.replace(old, new)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: b"", "damaged, lacks the columns epoch, step"),
        (lambda table: table.split(b"\n")[0] + b"\n", "has no epoch yet"),
        (
            replacing(b"val_top1_error_pct", b"error"),
            "damaged, lacks the columns val_top1_error_pct",
        ),
        (replacing(b"\n2,", b"\n2,,"), "damaged, line 3 is not 11 numbers"),
        (replacing(b"\n2,", b"\nnan,"), "damaged, line 3 is not 11 numbers"),
        (replacing(b"\n3,18", b"\n3,12"), "damaged, its steps do not rise"),
        (lambda table: b"\xff\xfe\x00" + table, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_named(damage, message, copied):
    table = copied / "metrics.csv"
    table.write_bytes(damage(table.read_bytes()))
    assert f"{table}: {message}" in run(plot, copied, code=2)


def test_a_missing_table_is_named(copied):
    (copied / "metrics.csv").unlink()
    assert f"{copied}/metrics.csv: not there" in run(plot, copied, code=2)


def test_other_files_of_a_folder_that_cannot_be_drawn_are_named(copied, here):
    assert f"{here}/metrics.csv: not there; give the folder" in run(plot, here, code=2)
    (copied / "steps.csv").write_text((copied / "steps.csv").read_text().split("\n")[0] + "\n")
    assert draw_curves(copied)  # running means can be lacking
    (copied / "steps.csv").write_text("step,lr\n")
    assert "steps.csv: damaged, lacks the columns epoch, train_loss" in run(plot, copied, code=2)
    (copied / "chain.json").write_text("[]")
    assert "chain.json: is not a JSON object" in run(plot, copied, code=2)
    (copied / "chain.json").write_text('{"stages": [{"name": "A"}]}')
    assert "no stage of this chain has finished an epoch yet" in run(plot, copied, code=2)


def test_without_best_pt_the_curves_lack_only_the_level_of_equal_scores(copied):
    (copied / "best.pt").unlink()
    loss, _, _ = curves(read_histories(copied), "title").axes
    assert "equal scores" not in texts(loss) and "epoch means" in texts(loss)
    assert draw_curves(copied) == copied / "curves.png"


def test_runs_are_compared_by_mean_and_range_over_seeds(copied, tmp_path):
    errors = {"seed 1": (80, 60, 50), "seed 2": (90, 63, 46), "other": (70, 40, 30)}
    for name, values in errors.items():
        table = pd.read_csv(copied / "metrics.csv").assign(val_top1_error_pct=values)
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "metrics.csv", index=False)
    labelled = {"both": [tmp_path / "seed 1", tmp_path / "seed 2"], "one": [tmp_path / "other"]}
    (axes,) = comparison(labelled, "step").axes
    assert line(axes, "both").tolist() == [[6, 85], [12, 61.5], [18, 48]] and line(
        axes, "one"
    ).tolist() == [[6, 70], [12, 40], [18, 30]]
    band = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices}
    assert band == {(6, 80), (12, 60), (18, 46), (6, 90), (12, 63), (18, 50)}
    assert "both, 2 seeds  48.0" in texts(axes) and "one  30.0" in texts(axes)
    assert len({to_hex(found.get_color()) for found in axes.get_lines()}) == 2
    assert line(comparison(labelled, "epoch").axes[0], "one")[:, 0].tolist() == [1, 2, 3]
    shorter = pd.read_csv(tmp_path / "seed 2" / "metrics.csv").head(2)
    shorter.to_csv(tmp_path / "seed 2" / "metrics.csv", index=False)
    with pytest.raises(InputError, match="seed 2: its epochs end at other updates"):
        comparison(labelled, "step")


def test_labels_are_pushed_apart_only_where_they_are_too_close():
    assert apart([1, 5, 9], 2) == [1, 5, 9]
    assert apart([4, 5, 20], 2) == [3.5, 5.5, 20]
    assert apart([0, 0.5, 2.5], 2) == [-1, 1, 3]
    rng = np.random.default_rng(0)
    for _ in range(50):
        placed = np.array(apart(sorted(rng.uniform(0, 10, 6)), 1.5))
        assert np.diff(placed).min() > 1.5 - 1e-9


# --- Views ---


@pytest.mark.slow
def test_the_sheet_shows_the_very_views_of_the_training(here, photos):
    """Oracle: views by hand from the generator of seed, epoch and image, found in the sheet."""
    output = run(train, "--data", photos, *THIN, "--seed", "5", "--picture", "deep/views.png")
    assert (
        "Views of training images, as a net gets them: deep/views.png" in output
        and not (here / "runs").exists()
    )
    dataset = open_dataset(photos, "train")
    components = measure_colours(dataset, 1).components()
    page = np.array(Image.open(here / "deep" / "views.png"))
    found = {}
    for index in (0, 16, 32, 48, 64, 80):  # 6 of 96
        for epoch in range(6):
            rng = np.random.default_rng((5, epoch, index, 1))
            view = random_view(
                read_image(dataset.path(index)),
                Augmentation(32, (32, 64), "bilinear", components, 0.1),
                rng,
            )
            shown = (
                (view.crop + torch.from_numpy(view.shift)[:, None, None])
                .clamp(0, 255)
                .round()
                .byte()
                .permute(1, 2, 0)
                .numpy()
            )
            found[index, epoch] = positions(page, shown.repeat(6, 0).repeat(6, 1))
    assert all(len(at) == 1 for at in found.values())  # each once, at six times its size
    ys, xs = (sorted({at[0][i] for at in found.values()}) for i in (0, 1))
    assert len(ys) == len(xs) == 6
    assert all(
        found[index, epoch] == [(ys[row], xs[epoch])]
        for row, index in enumerate((0, 16, 32, 48, 64, 80))
        for epoch in range(6)
    )


def test_the_sheet_skips_unreadable_images_if_asked_to(here, photos_copy):
    dataset = open_dataset(photos_copy, "train")
    for index in (16, 17):
        dataset.path(index).write_bytes(b"no image")
    output = run(
        train, "--data", photos_copy, *THIN, "--picture", "views.png", "--on-error", "skip"
    )
    assert "Views of training images" in output
    output = run(train, "--data", photos_copy, *THIN, "--picture", "stops.png", code=2)
    assert dataset.files[16] in output and not (here / "stops.png").exists()


def positions(page: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Where a part of an image starts, (y, x): by its corners, then by all pixels."""
    page, part = (pixels.astype(np.int32) @ (1, 256, 65536) for pixels in (page, part))
    height, width = part.shape
    alike = page[: 1 - height, : 1 - width] == part[0, 0]
    for y, x in ((0, width - 1), (height - 1, 0), (height - 1, width - 1)):
        alike &= page[y : y + alike.shape[0], x : x + alike.shape[1]] == part[y, x]
    return [
        (int(y), int(x))
        for y, x in np.argwhere(alike)
        if (page[y : y + height, x : x + width] == part).all()
    ]


def test_a_view_knows_what_was_drawn():
    """Oracle: pixels that are their own coordinates at S, at which the image is not rescaled."""
    rows, columns = np.mgrid[:40, :48]
    image = Image.fromarray(np.dstack([rows, columns, 0 * rows]).astype(np.uint8))
    for seed in range(20):
        augmentation = Augmentation(32, (40, 40), "bilinear", np.zeros((3, 3)), 0.1)
        view = random_view(image, augmentation, np.random.default_rng(seed))
        assert (view.side, view.top, view.left) == (40, view.crop[0].min(), view.crop[1].min())
        assert view.mirrored == bool(view.crop[1, 0, 0] > view.crop[1, 0, -1])


def test_a_sheet_of_what_cannot_be_read_or_written(here, photos_copy):
    (here / "file").write_text("")
    assert "file/views.png: cannot be written" in run(
        train, "--data", photos_copy, *THIN, "--picture", "file/views.png", code=2
    )
    (photos_copy / "train" / "disc" / "000.jpeg").write_bytes(b"no image")
    assert "train/disc/000.jpeg" in run(
        train, "--data", photos_copy, *THIN, "--picture", "views.png", code=2
    )
    assert not (here / "views.png").exists()


# --- TensorBoard ---


def events(folder) -> dict[str, dict[int, float]]:
    """Tag to {step: value}, as TensorBoard shows them."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    shown = {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}
    assert all(
        len({event.step for event in found}) == len(found) for found in shown.values()
    )  # none twice
    return {tag: {event.step: event.value for event in found} for tag, found in shown.items()}


def assert_as_tables(folder) -> None:
    shown = events(folder)
    for name, group in zip(TABLES, ("epochs", "updates"), strict=True):
        table = pd.read_csv(folder / name)
        columns = [column for column in table if column not in ("step", "epoch")]
        assert sorted(tag for tag in shown if tag.startswith(group)) == sorted(
            f"{group}/{column}" for column in columns
        )
        for column in columns:
            assert shown[f"{group}/{column}"] == pytest.approx(
                dict(zip(table.step, table[column], strict=True)), rel=1e-6
            )


def test_tensorboard_shows_what_the_tables_hold(trained):
    folder, output = trained
    assert f"tensorboard --logdir {folder}" in output
    assert_as_tables(folder)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_resumed_run_is_shown_once(here, photos, monkeypatch):
    """Interrupted in its second epoch, it leaves events of updates that no checkpoint has."""
    from train.record.run_folder import Run

    save = Run.save

    def broken_off(self, checkpoint, best):
        save(self, checkpoint, best)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "save", broken_off)
    run(
        train,
        *options(f"--arch A --data {photos}"),
        *THIN,
        *options("--epochs 3 --tensorboard --out run"),
        code=130,
    )
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert len(pd.read_csv("run/metrics.csv")) < 3
    with SummaryWriter("run") as writer:
        for step in (7, 8, 40):
            writer.add_scalar("updates/train_loss", 99, step)
    run(train, "--resume", "run", "--tensorboard", "--workers", "0", "--threads", "2")
    assert pd.read_csv("run/metrics.csv").step.tolist() == [6, 12, 18]
    assert_as_tables(here / "run")


def test_without_tensorboard_nothing_starts(here, photos, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "tensorboard", None
    )  # what Python takes for a package that is not there
    assert "pip install tensorboard" in run(
        train, "--data", photos, *THIN, "--tensorboard", "--out", "run", code=2
    )
    assert not (here / "run").exists()
