"""Distance files in vgg-bench: rows, limits, and what is refused."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
from scipy import stats

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from export.distance import pairs as export_pairs
from tests.support.naive_distances import naive_distances
from tests.support.nets import photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.unlabelled import open_unlabelled
from vgg_deploy.images.decode import resized
from vgg_deploy.images.distortions import DISTORTIONS, distorted_batch

TERMS = {"relu2_2": 1.0, "relu3_3": 0.5}
FP32, FP16, INT8 = (f"D.perceptual.{p}.onnx" for p in ("fp32", "fp16", "int8-cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("distances")
    rng = np.random.default_rng(2)
    (root / "photos").mkdir()
    for number in range(12):
        photo = photo_of(("disc", "square", "triangle")[number % 3], rng)
        photo.save(root / "photos" / f"{number}.png")
    save_net(thin_net("D", seed=4), root / "net.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_pairs, "MOST_PHOTOS", 1)
        run(
            vgg_export,
            *(root / "net.pt", "--onnx", "--perceptual", "relu2_2:1,relu3_3:0.5"),
            *("--precision", "fp32,fp16,int8-cpu", "--calibration", root / "photos"),
            *("--calibration-images", "4", "--threads", "2", "--out", root),
        )
    return root


def bench(folder, tmp_path, *files, code=0, more=()):
    words = [folder / name for name in files]
    words += ["--data", folder / "photos", "--scales", "40", "--threads", "2"]
    return run(vgg_bench, *words, "--out", tmp_path / "results", *more, code=code)


def test_rows_are_those_of_a_plain_evaluation(folder, tmp_path):
    text = bench(folder, tmp_path, FP32, FP16, INT8)
    assert "Distances, 12 photos beside 15 distortions of each, against D.perceptual.fp32" in text
    rows = pd.read_csv(tmp_path / "results" / "distances.csv").set_index("precision")
    pairs = pd.read_csv(tmp_path / "results" / "distance_pairs.csv")
    assert len(pairs) == 3 * 12 * 15 and list(rows.pairs) == 3 * [180]
    photos = open_unlabelled(folder / "photos")
    expected = []
    for index in range(3):
        pixels = np.asarray(resized(photos.image(index), 40, "bilinear"))
        second = distorted_batch(pixels, index)
        first = np.repeat(pixels.transpose(2, 0, 1)[None], 15, axis=0)
        net = thin_net("D", seed=4)
        expected.append(naive_distances(net, "perceptual", TERMS, first, second))
    expected = np.concatenate(expected)
    by_precision = {name: group.distance.to_numpy() for name, group in pairs.groupby("precision")}
    np.testing.assert_allclose(by_precision["fp32"][:45], expected, rtol=5e-5)
    kinds = pairs[pairs.precision == "fp32"].distortion.to_list()
    assert kinds[:15] == [one.kind for one in DISTORTIONS]
    for precision in ("fp16", "int8-cpu"):
        row = rows.loc[precision]
        oracle = stats.spearmanr(by_precision[precision], by_precision["fp32"]).statistic
        assert row.spearman == pytest.approx(oracle, abs=1e-9)
        assert 0.9 < row.spearman_low <= row.spearman_high <= 1
        error = np.abs(by_precision[precision] - by_precision["fp32"].astype(float)).max()
        assert row.largest_error == pytest.approx(error, rel=1e-5)
        assert row.mean_distance == pytest.approx(by_precision[precision].mean(), rel=1e-6)
    assert np.isnan(rows.loc["fp32"].spearman)
    report = (tmp_path / "results" / "report.html").read_text()
    assert "Each photo beside 15 distortions" in report and INT8 in report
    assert "## Distances, 12 photos" in (tmp_path / "results" / "report.md").read_text()


def checks(tmp_path) -> dict:
    text = (tmp_path / "results" / "gate.json").read_text()
    assert "NaN" not in text
    gate = json.loads(text)
    return {(c["model"], c["check"]): c for c in gate["checks"]} | {"verdict": gate["verdict"]}


def test_limits_pass_fail_and_stay_open(folder, tmp_path):
    text = bench(
        *(folder, tmp_path, FP32, FP16),
        more=("--min-spearman", "0.99", "--max-distance-error", "100"),
    )
    assert "Gate: pass. All 5 checks passed on 12 images." in text
    found = checks(tmp_path)
    check = found[FP16, "rank correlation"]
    assert check["verdict"] == "pass" and check["low"] > 0.99
    largest = found[FP16, "distance error"]["found"]

    limit = f"{largest / 2:.9f}"
    text = bench(folder, tmp_path, FP32, FP16, code=1, more=("--max-distance-error", limit))
    assert "FAIL D.perceptual.fp16.onnx, distance error (Q 40): its distances differ" in text
    assert checks(tmp_path)["verdict"] == "fail"

    row = pd.read_csv(tmp_path / "results" / "distances.csv").set_index("precision").loc["fp16"]
    assert row.largest_error == pytest.approx(largest)


def test_a_limit_inside_the_interval_is_undecided_and_beyond_it_fails(folder, tmp_path):
    bench(folder, tmp_path, FP32, INT8)
    row = pd.read_csv(tmp_path / "results" / "distances.csv").iloc[1]
    middle = f"{row.spearman:.12f}"
    text = bench(folder, tmp_path, FP32, INT8, code=3, more=("--min-spearman", middle))
    assert "UNDECIDED D.perceptual.int8-cpu.onnx, rank correlation (Q 40)" in text
    text = bench(folder, tmp_path, FP32, INT8, code=1, more=("--min-spearman", "1"))
    assert "FAIL D.perceptual.int8-cpu.onnx, rank correlation" in text
    more = ("--min-spearman", "0.5", "--images", "11")
    text = bench(folder, tmp_path, FP32, INT8, code=3, more=more)
    assert "too few photos for a verdict, at least 12 are needed" in text


@pytest.mark.parametrize(
    ("files", "more", "words"),
    [
        ((FP32, "net.pt"), (), "measure the two kinds of files in two runs"),
        (("net.pt",), ("--min-spearman", "0.9"), "net.pt gives no distance; leave them out"),
        ((FP32,), ("--min-spearman", "0.9"), "name the reference and at least one more"),
        ((FP32, FP16), ("--max-top1-drop", "1"), "leave other limits out"),
        ((FP32, FP16), ("--min-spearman", "1.5"), "write a number from 0 to 1"),
        ((FP32, FP16), ("--max-distance-error", "nan"), "is no limit"),
        ((FP32,), ("--protocols", "dense"), "--protocols is about classifiers"),
        ((FP32,), ("--classes", "x.txt"), "--classes is about classifiers"),
        ((FP32, FP32), (), "is named twice"),
        ((FP32,), ("--runtimes", "ncnn"), "the runtime ncnn does not open it"),
    ],
)
def test_what_does_not_fit_is_one_sentence(files, more, words, folder, tmp_path):
    assert words in bench(folder, tmp_path, *files, code=2, more=more)
    gate = tmp_path / "results" / "gate.json"
    assert not gate.exists() or json.loads(gate.read_text())["verdict"] == "error"


def test_an_unreadable_photo_stops_or_is_left_out(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        data = (folder / "photos" / f"{number}.png").read_bytes()
        (photos / f"{number}.png").write_bytes(data[:60] if number == 1 else data)
    words = [folder / FP32, "--data", photos, "--scales", "40", "--out", tmp_path / "results"]
    assert "1.png" in run(vgg_bench, *words, code=2)
    assert "Left out: " in run(vgg_bench, *words, "--on-error", "skip")
    row = pd.read_csv(tmp_path / "results" / "distances.csv").iloc[0]
    assert row.photos == 2


def test_a_photo_below_the_least_side_is_named(folder, tmp_path):
    more = ("--scales", "3")
    assert "needs sides of 4 or more; raise --scales" in bench(
        folder, tmp_path, FP32, code=2, more=more
    )


@pytest.mark.nightly
@pytest.mark.slow
def test_other_distances_are_ranked_but_have_no_error(folder, tmp_path):
    words = (folder / "net.pt", "--onnx", "--gram", "relu2_2", "--threads", "2")
    run(vgg_export, *words, "--out", tmp_path)
    files = [folder / FP32, tmp_path / "D.gram.fp32.onnx"]
    words = [*files, "--data", folder / "photos", "--scales", "40", "--out", tmp_path / "results"]
    text = run(vgg_bench, *words, "--max-distance-error", "1e6", "--min-spearman", "0", code=1)
    assert "measures another distance than D.perceptual.fp32.onnx" in text
    row = pd.read_csv(tmp_path / "results" / "distances.csv").iloc[1]
    assert np.isnan(row.largest_error) and row.spearman > 0.5
    assert checks(tmp_path)["D.gram.fp32.onnx", "rank correlation"]["verdict"] == "pass"


def test_distances_that_are_not_finite_fail(folder, tmp_path):
    model = onnx.load(folder / FP32)
    for tensor in model.graph.initializer:
        if tensor.name == "conv1_1.bias":
            values = onnx.numpy_helper.to_array(tensor) * np.float32(np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    words = [folder / FP32, tmp_path / "nan.onnx", "--data", folder / "photos", "--scales", "40"]
    words += ["--images", "12", "--accuracy-batch", "4", "--out", tmp_path / "results"]
    assert "nan.onnx: gives distances that are not finite" in run(vgg_bench, *words, code=1)
    limits = ("--min-spearman", "0.5", "--max-distance-error", "1e6")
    assert "cannot be ranked" in run(vgg_bench, *words, *limits, code=1)
    found = checks(tmp_path)  # the file is JSON, which has no NaN
    for check in ("finite distances", "distance error", "rank correlation"):
        assert found["nan.onnx", check]["verdict"] == "fail"
