"""vgg-export --max-top1-drop: the layers that it keeps, the images that judge, and its ends."""

import io
import itertools
import json
import shutil

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from bench.cli import main as vgg_bench
from export import within_limit
from export.cli import main as vgg_export
from export.limit import choice
from export.limit.photos import open_photos
from export.limit.record import ALONE, CHOOSING, JUDGED, show_limit
from export.limit.search import find_layers
from export.limit.trials import Trials
from export.python import export
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization
from export.quantize.sensitivity import measure_sensitivity
from export.settings.export_options import ExportOptions
from export.settings.precision import PRECISIONS
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.planted import SIDE, net_and_photos
from tests.support.run import run
from vgg_deploy.errors import InputError

COUNT = 240  # photos: 30 calibrate, 52 choose, 158 judge
CONVOLUTIONS = [
    *("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1"),
    *("conv4_2", "conv5_1", "conv5_2", "fc6", "fc7"),
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A net whose conv3_2 8 bits ruin, and photos that it names without a mistake."""
    root = tmp_path_factory.mktemp("planted")
    save_net(net_and_photos(root / "photos", COUNT, "conv3_1"), root / "A.pt")
    return root


@pytest.fixture
def work(planted, here):
    """A working folder with the net and the photos."""
    (here / "photos").symlink_to(planted / "photos")
    shutil.copy(planted / "A.pt", here / "A.pt")
    return here


def parts(root, **options):
    """The three parts of photos, each as a set of paths."""
    chosen = ExportOptions(("int8",), max_top1_drop=1, data=root, **options)
    found = open_photos(root, chosen, thin_net("A"), "A.pt", False)
    return [
        {part.path(i).resolve() for i in range(len(part))}
        for part in (found.calibrate, found.choose, found.judge)
    ]


def test_every_photo_has_one_part(planted, photos):
    calibrate, choose, judge = parts(planted / "photos")
    assert (len(calibrate), len(choose), len(judge)) == (30, 52, 158)
    assert len(calibrate | choose | judge) == COUNT
    for part in (calibrate, choose, judge):  # spread over the classes
        assert {path.parent.name for path in part} == set(CLASSES)


def test_a_training_half_calibrates_and_does_nothing_else(planted, tmp_path):
    shutil.copytree(planted / "photos", tmp_path / "set" / "val")
    shutil.copytree(planted / "photos", tmp_path / "set" / "train")
    calibrate, choose, judge = parts(tmp_path / "set", calibration_images=40)
    assert (len(calibrate), len(choose), len(judge)) == (40, 60, 180)
    assert {path.parents[1].name for path in calibrate} == {"train"}
    assert {path.parents[1].name for path in choose | judge} == {"val"}


def test_photos_that_calibrate_neither_choose_nor_judge(planted):
    folder = planted / "photos"
    calibrate, choose, judge = parts(folder, calibration=folder, calibration_images=100)
    assert (len(calibrate), len(choose), len(judge)) == (100, 35, 105)
    assert not calibrate & (choose | judge)


@pytest.mark.slow
def test_the_planted_layer_alone_is_kept_and_the_gate_agrees(work):
    """Oracles: ONNX Runtime and Pillow alone for the counts, vgg-bench for the verdict."""
    limit = ("--max-top1-drop", 11, "--data", "photos", "--threads", 1)
    output = run(vgg_export, "A.pt", "--onnx", "--precision", "fp32,int8-cpu", *limit)
    assert "30 of the photos calibrate, 52 choose the layers, 158 others judge" in output
    manifest = json.loads((work / "exported" / "A.int8-cpu.json").read_text())
    found = manifest["limit"]
    assert manifest["quantization"]["kept"] == ["conv3_2", "fc8"]
    (kept,) = found["kept"]
    assert kept["layer"] == "conv3_2" and kept["why"].startswith("rank 1 of 10")
    assert "quantized too" in kept["why"]
    assert found["judging_images"] == 158 and found["confidence"] == pytest.approx(0.96)
    assert found["reference_error_pct"] == 0 and found["high_points"] <= 11
    row = json.loads((work / "exported" / "export.json").read_text())[1]
    assert "keeps the limit of 11 points" in row["limit"]

    judged = sorted(parts(work / "photos")[2])
    sessions = [
        ort.InferenceSession(work / "exported" / f"A.{name}.onnx") for name in ("fp32", "int8-cpu")
    ]
    right = np.zeros((2, len(judged)), bool)
    for i, path in enumerate(judged):
        image = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)[None]
        label = sorted(CLASSES).index(path.parent.name)
        for j, session in enumerate(sessions):
            right[j, i] = session.run(["posterior"], {"image": image})[0][0].argmax() == label
    assert found["lost"] == (right[0] & ~right[1]).sum() > 0
    assert found["won"] == (right[1] & ~right[0]).sum()

    for path in judged:
        target = work / "judged" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    files = ("exported/A.fp32.onnx", "exported/A.int8-cpu.onnx")
    gate = ("--max-top1-drop", 11, "--measure", "accuracy", "--scales", SIDE, "--data", "judged")
    run(vgg_bench, *files, *gate, "--threads", 1)
    compared = pd.read_csv("results/comparisons.csv").iloc[0]
    counts = (compared.only_reference_right, compared.only_model_right, compared.images)
    assert counts == (found["lost"], found["won"], 158)

    table = pd.read_csv("exported/A.int8-cpu.trials.csv", keep_default_na=False)
    assert table.to_dict("list").keys() == found["trials"][0].keys()
    assert list(table[table.step == ALONE].alone) == CONVOLUTIONS
    assert table[table.step == CHOOSING].iloc[0].kept == ""
    assert list(table[table.step == JUDGED].kept) == ["conv3_2"]
    first = (work / "exported" / "A.int8-cpu.trials.csv").read_bytes()
    again = export(
        "A.pt", "again", precision="int8-cpu", max_top1_drop=11, data="photos", threads=1
    )
    assert (work / "again" / "A.int8-cpu.trials.csv").read_bytes() == first  # deterministic
    assert again[0].kept == ("conv3_2", "fc8")
    shown = io.StringIO()
    console = Console(file=shown, width=80, force_terminal=False)
    show_limit(again[0].limit, console)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and any("158 judging" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8-cpu", "int8"])
def test_hardly_a_set_of_layers_is_smaller(planted, precision):
    """Oracle: all 64 subsets of six layers, the planted one among them.

    Every limit is tried, also those that one or two of 60 photos decide, where the counts of
    changed answers are noise: there another set may have one layer fewer.
    """
    net = net_and_photos(planted / "same", 60, "conv3_1", seed=1)
    files = sorted((planted / "same").rglob("*.png"))
    batch = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    names = ("conv2_1", "conv3_2", "conv4_1", "conv5_2", "fc6", "fc7")
    format = PRECISIONS[precision]
    thresholds = clip(measure_ranges(net, [batch[::4]]), "mse", format)
    last = thresholds[LAST] if format.fused else None
    whole = Quantization({name: thresholds[name] for name in names}, True, last)
    trials = Trials(net, format, whole, [batch])
    reference = Trials(net, PRECISIONS["int8-cpu"], Quantization({}), [batch])
    best = reference.scores(frozenset()).argmax(1)
    subsets = [
        frozenset(chosen) for count in range(7) for chosen in itertools.combinations(names, count)
    ]
    changed = {kept: int((trials.scores(kept).argmax(1) != best).sum()) for kept in subsets}
    alone = measure_sensitivity(net, format, whole, [batch], lambda count: None)
    order = [row.layer for row in sorted(alone, key=lambda row: row.sqnr_db)]
    assert order[0] == "conv3_2"
    sizes = dict.fromkeys(names, 1)
    searches = optimal = 0
    for allowed in range(changed[frozenset()] + 1):
        found = find_layers(
            lambda: order, sizes, lambda kept, allowed=allowed: changed[kept] <= allowed
        )
        passing = [kept for kept in subsets if changed[kept] <= allowed and len(kept) < 6]
        if not found.passes:
            assert order[-1] in names and changed[frozenset(order[:-1])] > allowed
            continue
        assert changed[found.kept] <= allowed
        fewest = len(min(passing, key=len))
        assert len(found.kept) <= fewest + 1, (allowed, found.kept)
        searches, optimal = searches + 1, optimal + (len(found.kept) == fewest)
    assert searches > 5 and optimal >= 0.8 * searches


@pytest.mark.slow
def test_a_limit_that_no_file_keeps(work):
    """Only the planted layer may be quantized, and it is ruined."""
    keep = ",".join(name for name in CONVOLUTIONS if name != "conv3_2")
    limit = ("--max-top1-drop", 3, "--data", "photos", "--keep", keep, "--threads", 1)
    output = run(vgg_export, "A.pt", "--onnx", "--precision", "int8-cpu", *limit, code=1)
    assert "no file keeps the limit of 3 points: at best top-1 accuracy falls by" in output
    assert "A.int8-cpu.trials.csv" in output
    left = {path.name for path in (work / "exported").iterdir()}
    assert left == {"A.calibration.json", "A.int8-cpu.trials.csv"}


@pytest.mark.slow
def test_nothing_is_ranked_where_nothing_has_to_be_kept(here, monkeypatch):
    """The net has no layer that 8 bits ruin."""
    save_net(net_and_photos(here / "photos", COUNT), here / "A.pt")

    def refuse(*args):
        raise AssertionError("layers are tried alone")

    monkeypatch.setattr(within_limit, "measure_sensitivity", refuse)
    (exported,) = export("A.pt", precision="int8-cpu", max_top1_drop=20, data="photos", threads=1)
    assert exported.kept == ("fc8",)
    found = exported.limit.document()
    assert found["confidence"] == pytest.approx(0.96) and found["kept"] == []
    assert [trial["step"] for trial in found["trials"]] == [CHOOSING, JUDGED]
    assert exported.limit.order == tuple(CONVOLUTIONS)


@pytest.mark.slow
def test_layers_are_ranked_once_the_file_without_floats_fails(work, monkeypatch):
    """The choosing images promise too much; the levels of the files that follow are shared."""
    monkeypatch.setattr(choice, "promises", lambda *args: True)
    limit = ("--max-top1-drop", 11, "--data", "photos", "--threads", 1)
    run(vgg_export, "A.pt", "--onnx", "--precision", "int8-cpu", *limit)
    table = pd.read_csv("exported/A.int8-cpu.trials.csv", keep_default_na=False)
    assert list(table.step) == [CHOOSING, JUDGED, *[ALONE] * len(CONVOLUTIONS), JUDGED]
    judged = table[table.step == JUDGED]
    assert list(judged.passes) == ["no", "yes"]
    assert list(judged.level_pct.astype(float)) == pytest.approx([4, 0.8])
    first, second = (row.split() for row in judged.kept)
    assert first == [] and "conv3_2" in second and len(second) == len(CONVOLUTIONS) // 2
    assert second[0] == "conv3_2"  # the most sensitive first


@pytest.mark.slow
def test_images_that_do_not_decide(work):
    """The first file is not enough, the others could not be shown to be enough."""
    limit = ("--max-top1-drop", 2.5, "--data", "photos", "--threads", 1)
    output = run(vgg_export, "A.pt", "--onnx", "--precision", "fp32,int8-cpu", *limit, code=3)
    assert (
        "not enough images to show that the limit of 2.5 points is kept: it takes about" in output
    )
    assert "the best can be written with --keep" in output
    assert not (work / "exported" / "A.int8-cpu.onnx").exists()
    assert (work / "exported" / "A.fp32.onnx").exists()
    judged = pd.read_csv("exported/A.int8-cpu.trials.csv").query("step == 'judging'")
    assert list(judged.passes) == ["no"] * len(judged)


def test_too_few_images_are_reported_before_the_work(work):
    limit = ("--max-top1-drop", 0.3, "--data", "photos")
    output = run(vgg_export, "A.pt", "--onnx", "--precision", "int8", *limit, code=3)
    assert "158 judge" in output and "it takes 1,072" in output  # ln 0.04 / ln 0.997 = 1071.3
    assert "give more photos, or a limit of 2.02 points or more" in output  # 1 - 0.04^(1/158)
    assert not (work / "exported").exists()


@pytest.mark.slow
def test_photos_without_labels_limit_the_answers_that_change(here):
    net = net_and_photos(here / "sorted", 100)
    save_net(net, here / "A.pt")
    (here / "photos").mkdir()
    for path in (here / "sorted").rglob("*.png"):
        shutil.copy(path, here / "photos")
    (exported,) = export("A.pt", precision="fp8", max_top1_drop=30, data="photos", threads=1)
    found = exported.limit.document()
    assert found["of"] == "changed answers" and found["won"] == 0
    assert found["reference_error_pct"] is None
    assert "simulates fp8" in found["measured"] and "a GPU may differ" in found["measured"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--precision", "int8"), "is measured on photos; add --data"),
        (("--data", "photos"), "is for quantized files; add int8, int8-cpu or fp8"),
        (
            ("--precision", "int8", "--data", "photos", "--features", "fc7"),
            "is measured on scores; leave --features out",
        ),
        (("--precision", "int8", "--data", "nowhere"), "nowhere"),
        (
            ("--precision", "int8", "--data", "photos", "--whole-images", "48"),
            "find the layers without --whole-images",
        ),
        (
            ("--precision", "int8", "--data", "photos", "--fixed-shape", "1x3x48x48"),
            "find the layers without --fixed-shape",
        ),
        (("--precision", "int8,int4-cpu", "--data", "photos"), "export int4-cpu files without it"),
        (
            ("--precision", "int8", "--data", "photos", "--low-rank", "fc6:2"),
            "export --low-rank files without it",
        ),
    ],
)
def test_options_that_do_not_fit_a_limit(work, args, message):
    output = run(vgg_export, "A.pt", "--onnx", "--max-top1-drop", 1, *args, code=2)
    assert message in output
    assert not (work / "exported").exists()


@pytest.mark.parametrize("points", ["0", "100", "nan", "-1"])
def test_a_limit_is_a_percentage(work, points):
    args = ("A.pt", "--onnx", "--precision", "int8", "--data", "photos")
    run(vgg_export, *args, f"--max-top1-drop={points}", code=2)
    with pytest.raises(InputError, match="max_top1_drop"):
        export("A.pt", precision="int8", max_top1_drop=float(points), data="photos")


def test_photos_of_other_classes_are_refused(work):
    (work / "others" / "cat").mkdir(parents=True)
    Image.new("RGB", (48, 48)).save(work / "others" / "cat" / "1.png")
    args = ("--precision", "int8", "--max-top1-drop", 20, "--data", "others")
    assert "lack 1 of the 1 of others: cat" in run(vgg_export, "A.pt", "--onnx", *args, code=2)


def test_three_photos_are_too_few(work):
    for name in ("disc", "square"):
        (work / "few" / name).mkdir(parents=True)
        Image.new("RGB", (48, 48)).save(work / "few" / name / "1.png")
    args = ("--precision", "int8", "--max-top1-drop", 20, "--data", "few")
    assert "too few to calibrate" in run(vgg_export, "A.pt", "--onnx", *args, code=2)
