"""Faults planted on purpose: the gate must name each, and a sound export must pass."""

import json
import shutil
from collections import Counter
from dataclasses import fields, replace
from xml.etree import ElementTree

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from bench import conclusion
from bench.accuracy import score_views
from bench.accuracy.compare import Comparison
from bench.accuracy.distance import FLOAT16_STEP, ROUNDING, Distance
from bench.accuracy.sampling import FIRST, fixed_order, looks
from bench.cli import main as vgg_bench
from bench.gate.gate_limits import GateLimits
from bench.gate.method import FIXED
from bench.gate.refused import GATE_OPTIONS
from bench.gate.verdict import Check, Gate
from bench.gate.verdict_files import verdict_on_disk, write_gate
from bench.report.gate_text import MOST_LINES, lines
from bench.report.table_texts import comparison_texts
from bench.report.tables import write_frame
from bench.request import GateRequest
from export import release
from export.onnx.graph import Graph, onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from tests.support.faulty_nets import (
    overflowing,
    permuted_classes,
    softmax_before_average,
    swapped_channels,
    without_mean,
    zeroed_convolution,
)
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.files import sha256
from vgg_deploy.images.decode import planes, rescale
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.statistics.evidence import Verdict, paired_evidence, verdicts

STRICT = ["--max-top1-drop", "0", "--max-top5-drop", "0", "--min-agreement", "100"]
GATE = ["--max-top1-drop", "0.5", "--max-top5-drop", "0.5", "--min-agreement", "99"]
QUICK = ["--measure", "accuracy", "--threads", "1"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A net with a random fc8, so that its answers differ from image to image."""
    return save_net(thin_net("D"), tmp_path_factory.mktemp("reference") / "D.pt")


@pytest.fixture(scope="module")
def right(reference, tmp_path_factory):
    """160 images in class folders by the reference's own answers.

    It makes no mistake at Q = 48 without flips.
    """
    root, rng = tmp_path_factory.mktemp("right"), np.random.default_rng(5)
    runtime = open_runtime(reference)
    for kind in CLASSES:
        (root / "val" / kind).mkdir(parents=True)
    for i in range(160):
        image = photo_of(CLASSES[i % 4], rng)
        pixels = np.ascontiguousarray(rescale(planes(image), 48).numpy()[None])
        best = runtime(pixels).posterior.argmax()
        image.save(root / "val" / CLASSES[best] / f"{i:03d}.png")
    counts = [len(list((root / "val" / kind).iterdir())) for kind in CLASSES]
    assert sum(count > 10 for count in counts) >= 2, counts
    for kind, count in zip(CLASSES, counts, strict=True):  # a class folder may not be empty
        if not count:
            photo_of(kind, rng).save(root / "val" / kind / "one.png")
    return root


@pytest.fixture
def gate(reference, photos, tmp_path):
    def judged(*models, code, more=("--scales", "48"), limits=GATE, data=photos, first=reference):
        out = tmp_path / "results"
        kept = ["--cells", tmp_path / "cells", "--out", out]
        said = run(
            vgg_bench, first, *models, "--data", data, *QUICK, *kept, *more, *limits, code=code
        )
        document = json.loads((out / "gate.json").read_text())
        return said, document, ElementTree.parse(out / "gate.xml").getroot()

    return judged


def faulty_file(reference, tmp_path, fault, net=None, precision="fp32"):
    """An ONNX file that says that it was made from the reference, written past the export check."""
    net = net or thin_net("D")
    artifact = Artifact(net.spec, "uint8", precision, reference.name, sha256(reference))
    graph = onnx_graph(net, artifact, PRECISIONS[precision])
    if fault:
        fault(graph)
    path = tmp_path / ("half.onnx" if precision == "fp16" else "faulty.onnx")
    write_onnx(path, graph)
    return path


def gate_of(*checks):
    """A gate with these checks."""
    return Gate("a", GateLimits(), FIXED, list(checks), [], [], 1, 1, [])


def flips_check(verdict):
    return Check("a", "flips", "", verdict, "m")


def failing(found):
    return {c["check"] for c in found["checks"] if c["verdict"] == "fail"}


def of(found, check, model="faulty.onnx"):
    return [c for c in found["checks"] if c["check"] == check and c["model"] == model]


# --- What passes ---


@pytest.mark.slow
def test_a_sound_export_is_equal_to_rounding_and_passes_the_strictest_limits(
    gate, reference, tmp_path
):
    sound = faulty_file(reference, tmp_path, None)
    said, found, xml = gate(sound, code=0, more=("--scales", "48,80"), limits=STRICT)
    assert "Gate: pass. All" in said and "faulty.onnx equals D.pt to rounding: on 24 images" in said
    assert "0 images have a margin below" in said
    assert found["verdict"] == "pass" and found["passed"] and found["reference"] == "D.pt"
    assert (found["images"], found["images_left_out"], found["limits"]["top1_drop"]) == (24, 0, 0)
    rows = {c["rows"] for c in of(found, "agreement")}
    assert rows == {
        f"dense, Q {q}, {flips}" for q in ("48", "80", "48+80") for flips in ("no flips", "flips")
    }
    assert all("equal to D.pt to rounding" in c["message"] for c in of(found, "agreement"))
    comparisons = pd.read_csv(tmp_path / "results" / "comparisons.csv")
    assert (comparisons.largest_posterior_difference < 1e-5).all() and len(comparisons) == 6
    assert {c["check"] for c in found["checks"] if c["model"] == "faulty.onnx"} >= {
        "finite posteriors",
        "softmax after the average",
        "flips",
        "made from the reference",
        "same description",
        "posterior difference",
        "top-1 drop",
        "top-5 drop",
        "agreement",
    }
    assert xml.get("failures") == xml.get("errors") == xml.get("skipped") == "0"
    assert int(xml.get("tests")) == len(found["checks"])
    shown = comparison_texts([Comparison(**row) for row in comparisons.to_dict("records")]).rows
    assert len({tuple(row[:3]) for row in shown}) == 6
    assert [
        "faulty.onnx",
        "dense, no flips",
        "48",
    ] in [row[:3] for row in shown]
    run_id = json.loads((tmp_path / "results" / "environment.json").read_text())["run_id"]
    assert found["run_id"] == run_id
    for name in ("report.html", "report.md"):
        text = (tmp_path / "results" / name).read_text()
        assert "Gate: pass." in text and run_id in text and "equal to D.pt to rounding" in text


@pytest.mark.slow
def test_equality_needs_some_images(gate, reference, tmp_path):
    """On five images a fault that touches half of them is missed in one run of 32."""
    said, found, _ = gate(
        faulty_file(reference, tmp_path, None), code=3, more=("--scales", "48", "--images", "5")
    )
    assert found["verdict"] == "undecided" and "Gate: undecided." in said
    assert {c["verdict"] for c in of(found, "posterior difference")} == {"pass"}


@pytest.mark.slow
def test_classes_and_weights_permuted_together_are_the_same_net(gate, reference, tmp_path):
    net = thin_net("D", classes=CLASSES[::-1])
    with torch.no_grad():
        for parameter, own in (
            (net.fc8.weight, thin_net("D").fc8.weight),
            (net.fc8.bias, thin_net("D").fc8.bias),
        ):
            parameter.copy_(own.flip(0))
    said, found, _ = gate(faulty_file(reference, tmp_path, None, net), code=0, limits=STRICT)
    assert found["verdict"] == "pass" and "equals D.pt to rounding" in said
    assert (
        pd.read_csv(tmp_path / "results" / "comparisons.csv").largest_posterior_difference.max()
        < 1e-5
    )


@pytest.mark.slow
def test_foreign_weights_without_ids_against_their_export_with_ids(gate, photos, tmp_path):
    """The export knows the class list, the weights know numbers only: still the same net."""
    arrays = {
        name.replace(".weight", "_W").replace(".bias", "_b"): tensor.numpy()
        for name, tensor in thin_net("B").state_dict().items()
    }
    np.savez(tmp_path / "B.npz", **arrays)
    listed = (CLASSES, tuple(f"the {c}" for c in CLASSES))
    exported = release.export_onnx(
        tmp_path / "B.npz",
        tmp_path / "out",
        release.ExportOptions(("fp32",)),
        listed,
        1,
        lambda text: None,
    )[0]
    _, found, _ = gate(exported.path, code=0, first=tmp_path / "B.npz")
    assert found["equal_to_rounding"]


def test_two_exports_of_one_checkpoint_may_be_gated_against_each_other(gate, reference, tmp_path):
    """Their origin is the checkpoint, not the first file."""
    first, second = faulty_file(reference, tmp_path, None), tmp_path / "second.onnx"
    model = onnx.load(first)
    model.doc_string = "another file"
    onnx.save(model, second)
    _, found, _ = gate(second, code=0, first=first)
    assert found["verdict"] == "pass"


def test_cells_of_float16_widen_the_rounding_limit_by_their_own(gate, reference, tmp_path):
    more = ("--scales", "48", "--cell-type", "float16")
    _, found, _ = gate(faulty_file(reference, tmp_path, None), code=0, more=more)
    assert {c["limit"] for c in of(found, "posterior difference")} == {ROUNDING + FLOAT16_STEP}
    # oracle: NumPy's float16 of values that differ by far less than its step
    values = np.random.default_rng(0).random(100_000).astype(np.float32)
    apart = np.abs(
        values.astype(np.float16).astype(float)
        - (values + np.float32(1e-7)).astype(np.float16).astype(float)
    )
    assert FLOAT16_STEP / 2 < apart.max() <= FLOAT16_STEP


# --- What fails ---


@pytest.mark.parametrize(
    "fault", [without_mean, swapped_channels, zeroed_convolution, permuted_classes]
)
@pytest.mark.slow
def test_other_weights_or_pixels_disagree(gate, reference, tmp_path, fault):
    said, found, xml = gate(faulty_file(reference, tmp_path, fault), code=1)
    assert {"agreement", "posterior difference"} <= failing(found)
    assert found["verdict"] == "fail"
    assert not found["passed"]
    worst = min(of(found, "agreement"), key=lambda c: c["found"])
    assert worst["found"] < 99
    assert worst["limit"] == 99
    assert worst["images_total"] == len(worst["images"]) > 0
    worst_row = f"(2 of 2 rows, the worst {worst['rows']})"
    agrees = f"agrees with D.pt on {worst['found']:.2f} % of 24 images"
    assert f"FAIL faulty.onnx, agreement {worst_row}: {agrees}" in said
    assert f"on {worst['images'][0]}" in said
    assert "Gate: fail." in said
    assert "the gate failed" in said
    differences = pd.read_csv(tmp_path / "results" / "differences.csv")
    flipped = differences[differences.flips]
    assert sorted(flipped.image) == sorted(
        c
        for check in of(found, "agreement")
        if check["rows"].endswith(", flips")
        for c in check["images"]
    )
    assert (differences.reference_best != differences.model_best).all()
    failures = [case for suite in xml for case in suite if case.find("failure") is not None]
    assert (
        len(failures)
        == sum(c["verdict"] != "pass" for c in found["checks"])
        == int(xml.get("failures"))
    )
    assert any(worst["images"][0] in case.find("failure").text for case in failures)


def temperature(graph: Graph) -> None:
    """Scores three times as large: no best class changes, every posterior does."""
    for name in ("fc8.weight", "fc8.bias"):
        graph.weights[name] = 3 * graph.weights[name]


def mean_shifted(graph: Graph) -> None:
    """By one grey level."""
    graph.weights["subtract_mean.mean"] = graph.weights["subtract_mean.mean"] + np.float32(1)


def one_bias(graph: Graph) -> None:
    graph.weights["fc8.bias"] = graph.weights["fc8.bias"] + np.array([0.01, 0, 0, 0], np.float32)


@pytest.mark.parametrize("fault", [temperature, mean_shifted, one_bias])
@pytest.mark.slow
def test_what_accuracy_cannot_show_the_posteriors_do(gate, reference, tmp_path, fault):
    said, found, _ = gate(
        faulty_file(reference, tmp_path, fault),
        code=1,
        limits=["--max-top1-drop", "100", "--min-agreement", "0"],
    )
    assert failing(found) == {"posterior difference"}
    check = of(found, "posterior difference")[0]
    assert check["limit"] == ROUNDING < check["found"]
    assert "float32 files of the same weights differ by rounding only" in check["message"]
    assert check["images"] and not found["equal_to_rounding"]


@pytest.mark.slow
def test_the_limit_of_posteriors_is_the_users(gate, reference, tmp_path):
    """A wider limit allows the temperature; the drop is then judged by too few images."""
    path = faulty_file(reference, tmp_path, temperature)
    wide = ["--max-posterior-difference", "1", "--max-top1-drop", "0.5"]
    _, found, _ = gate(path, code=3, limits=wide)
    assert found["verdict"] == "undecided"
    assert not found["equal_to_rounding"]
    assert failing(found) == set()
    _, found, _ = gate(path, code=1, limits=["--max-posterior-difference", "0.01"])
    assert failing(found) == {"posterior difference"}
    assert of(found, "posterior difference")[0]["limit"] == 0.01


@pytest.mark.slow
def test_distances_are_what_a_loop_finds(gate, reference, photos, tmp_path):
    """Oracle: both nets called image by image, and a loop over classes."""
    path = faulty_file(reference, tmp_path, mean_shifted)
    gate(path, code=1)
    first, second, dataset = (
        open_runtime(reference),
        open_runtime(path),
        open_dataset(photos, "val"),
    )
    largest, variation = 0.0, 0.0
    for i in range(len(dataset)):
        pixels = np.ascontiguousarray(rescale(dataset.decode(i), 48).numpy()[None])
        one, two = first(pixels).posterior[0], second(pixels).posterior[0]
        largest = max([largest, *(abs(float(a) - float(b)) for a, b in zip(one, two, strict=True))])
        variation += (
            sum(abs(float(a) - float(b)) for a, b in zip(one, two, strict=True)) / 2 / len(dataset)
        )
    comparisons = pd.read_csv(tmp_path / "results" / "comparisons.csv")
    row = comparisons[~comparisons.flips].iloc[0]
    assert row.largest_posterior_difference == pytest.approx(largest, rel=1e-3)
    assert row.mean_total_variation == pytest.approx(variation, rel=1e-3)


@pytest.mark.slow
def test_softmax_before_the_average(gate, reference, tmp_path):
    """It changes few best classes, so it is found where it is: posterior against score map."""
    said, found, _ = gate(
        faulty_file(reference, tmp_path, softmax_before_average), code=1, more=("--scales", "80")
    )
    assert failing(found) == {"softmax after the average"}
    assert said.count("FAIL faulty.onnx, softmax after the average") == 1
    assert "its posterior is not the softmax of its mean score" in said


@pytest.mark.slow
def test_softmax_before_the_average_is_an_error_without_a_gate_too(
    gate, reference, photos, tmp_path
):
    """The other model keeps its rows, and the report says why this one has none."""
    path = faulty_file(reference, tmp_path, softmax_before_average)
    out = tmp_path / "r"
    args = ["--data", photos, "--measure", "accuracy", "--scales", "80"]
    args += ["--cells", tmp_path / "cells", "--out", out]
    for _ in range(2):  # the second time from stored cells
        assert "averages after the softmax" in run(vgg_bench, reference, path, *args, code=1)
        assert set(pd.read_csv(out / "accuracy.csv").model) == {"D.pt"}
        for name in ("report.html", "report.md"):
            text = (out / name).read_text()
            assert "Models with faults" in text and "averages after the softmax" in text


@pytest.mark.slow
def test_a_missing_flip(gate, reference, tmp_path, monkeypatch):
    """Planted in the bench itself: mirror images that are not mirrored."""
    monkeypatch.setattr(score_views, "mirror", lambda images: images)
    said, found, _ = gate(faulty_file(reference, tmp_path, None), code=1)
    assert failing(found) == {"flips"} and "the flip is missing" in said


@pytest.mark.slow
def test_a_wrong_resize_filter(gate, reference, tmp_path):
    net = thin_net("D")
    net.spec = replace(net.spec, preprocessing=replace(net.spec.preprocessing, filter="bicubic"))
    said, found, _ = gate(faulty_file(reference, tmp_path, None, net), code=1)
    assert "same description" in failing(found)
    assert "its preprocessing is Preprocessing(" in said
    assert "bicubic" in said


@pytest.mark.slow
def test_weights_of_the_wrong_arch(gate, reference, tmp_path):
    said, found, _ = gate(faulty_file(reference, tmp_path, None, thin_net("C")), code=1)
    assert {"same description", "agreement"} <= failing(found) and "its arch is C, that of" in said
    graph = onnx_graph(
        thin_net("C"),
        Artifact(thin_net("D").spec, "uint8", "fp32", "D.pt", sha256(reference)),
        PRECISIONS["fp32"],
    )
    write_onnx(tmp_path / "impostor.onnx", graph)
    said, found, _ = gate(tmp_path / "impostor.onnx", code=1)
    assert {"agreement", "posterior difference"} <= failing(found)
    assert "same description" not in failing(found)


def test_classes_permuted_in_the_description_only(gate, reference, tmp_path):
    """Each net has its own order of classes. Posteriors show if the weights do not follow it."""
    net = thin_net("D")
    net.spec = replace(net.spec, classes=CLASSES[1:] + CLASSES[:1], names=())
    _, found, _ = gate(faulty_file(reference, tmp_path, None, net), code=1)
    assert {"posterior difference", "agreement"} <= failing(found)
    assert "same description" not in failing(found)


def test_an_overflow(gate, reference, tmp_path):
    said, found, _ = gate(faulty_file(reference, tmp_path, overflowing), code=1)
    assert failing(found) == {"finite posteriors"}
    assert "NaN or infinite posteriors on 24 of 24 images" in said
    assert said.count("FAIL") == 1 and not of(found, "agreement")
    report = (tmp_path / "results" / "report.html").read_text()
    assert "Models with faults" in report
    assert "NaN or infinite posteriors on 24 of 24 images" in report


@pytest.mark.slow
def test_what_was_not_examined_is_not_called_passed(gate, reference, tmp_path):
    """NaN hides other faults of posteriors; without mirrored images flips are unknown."""
    of_posteriors = {
        "finite posteriors",
        "posteriors sum to 1",
        "softmax after the average",
        "flips",
    }
    _, found, xml = gate(faulty_file(reference, tmp_path, overflowing), code=1)
    looked = {
        (c["model"], c["check"]): c["verdict"]
        for c in found["checks"]
        if c["check"] in of_posteriors
    }
    assert looked == {("D.pt", check): "pass" for check in of_posteriors} | {
        ("faulty.onnx", "finite posteriors"): "fail"
    }
    assert int(xml.get("tests")) == len(found["checks"])
    _, found, _ = gate(
        faulty_file(reference, tmp_path, None), code=0, more=("--scales", "48", "--no-flips")
    )
    assert {c["check"] for c in found["checks"]} >= of_posteriors - {"flips"}
    assert "flips" not in {c["check"] for c in found["checks"]}


@pytest.mark.parametrize(("cell_type", "code"), [("float16", 0), ("float32", 0)])
def test_answers_rounded_to_1_say_nothing_about_flips(tmp_path, photos, cell_type, code):
    """A net that is very sure gives 1, 0, 0, ... to an image and to its mirror image."""
    net = thin_net()
    with torch.no_grad():
        net.fc8.weight.mul_(1e4)
    args = ["--data", photos, "--images", "4", "--scales", "48", *QUICK, "--max-top1-error", "100"]
    out = ["--cells", tmp_path / "cells", "--cell-type", cell_type, "--out", tmp_path / "r"]
    run(vgg_bench, save_net(net, tmp_path / "sure.pt"), *args, *out, code=code)
    found = json.loads((tmp_path / "r" / "gate.json").read_text())
    assert found["verdict"] == "pass"


def test_equal_in_some_rows_only_is_said(gate, reference, tmp_path, monkeypatch):
    judge = conclusion.judge

    def one_row_differs(asked, accuracy, left_out, others):
        last = accuracy.pairs[-1]
        apart = Distance(np.full(24, 0.5), np.full(24, 0.5))
        changed = last._replace(
            distance=apart, comparison=replace(last.comparison, largest_posterior_difference=0.5)
        )
        return judge(
            asked, replace(accuracy, pairs=[*accuracy.pairs[:-1], changed]), left_out, others
        )

    monkeypatch.setattr(conclusion, "judge", one_row_differs)
    said, found, _ = gate(faulty_file(reference, tmp_path, None), code=1)
    assert "equals D.pt to rounding in 1 of 2 rows, not in the others: on 24 images" in said
    assert failing(found) == {"posterior difference"}


def test_a_reference_that_overflows_fails_the_gate(gate, tmp_path):
    net = thin_net("D")
    with torch.no_grad():
        net.fc7.bias.fill_(3e38)
        net.fc8.weight.mul_(1000)
    bad, good = save_net(net, tmp_path / "bad.pt"), save_net(thin_net("D"), tmp_path / "good.pt")
    said, found, _ = gate(good, code=1, first=bad)
    assert "FAIL bad.pt, finite posteriors" in said and found["verdict"] == "fail"


@pytest.mark.slow
def test_a_stale_export(gate, tmp_path):
    """The file is sound, but was made from an earlier checkpoint."""
    old = save_net(thin_net("D", seed=5), tmp_path / "old.pt")
    exported = release.export_onnx(
        old, tmp_path / "out", release.ExportOptions(("fp32",)), None, 1, lambda text: None
    )[0]
    said, found, _ = gate(exported.path, code=1)
    assert "made from the reference" in failing(found)
    assert f"made from a file with sha256 {sha256(old)[:12]}" in said
    assert "it is stale" in said


@pytest.mark.slow
def test_the_best_row_is_never_a_faulty_model_s(gate, reference, right, tmp_path):
    """A model that is right more often than the reference is not the best if it fails."""
    gate(
        faulty_file(reference, tmp_path, swapped_channels),
        code=1,
        data=right,
        more=("--scales", "48", "--no-flips"),
    )
    report = (tmp_path / "results" / "report.md").read_text()
    accuracy = report[report.index("## Accuracy") :].partition("##")[2].partition("\n## ")[0]
    assert "| **D.pt** |" in accuracy and "**faulty.onnx**" not in accuracy


# --- What the images show ---


def holm_by_hand(p_fail, p_pass, level=0.05):
    """The verdicts of one gate, from p-values."""
    found = ["pass" if p <= level else "undecided" for p in p_pass]
    for i, row in enumerate(sorted(range(len(p_fail)), key=p_fail.__getitem__)):
        if p_fail[row] > level / (len(p_fail) - i):
            break
        found[row] = "fail"
    return found


@pytest.mark.parametrize(
    "limit", [99.5, 85, *(pytest.param(n, marks=pytest.mark.nightly) for n in (95, 60, 10))]
)
@pytest.mark.slow
def test_verdicts_of_agreement_are_those_of_the_binomial_test(
    gate, reference, right, tmp_path, limit
):
    """Oracle: scipy's binomial tail of the disagreements in differences.csv, and Holm by hand."""
    half = faulty_file(reference, tmp_path, swapped_channels, precision="fp16")
    result, found = judged_freely(
        reference, half, right, tmp_path, "--scales", "48,64", "--min-agreement", limit
    )
    checks, differences = (
        of(found, "agreement", "half.onnx"),
        pd.read_csv(tmp_path / "r" / "differences.csv"),
    )
    assert len(checks) == 6
    assert set(differences.image) >= {
        image for c in checks if c["rows"] == "dense, Q 48+64, flips" for image in c["images"]
    }
    n, share = found["images"], 1 - limit / 100
    p_fail = [stats.binom.sf(c["images_total"] - 1, n, share) for c in checks]
    p_pass = [stats.binom.cdf(c["images_total"], n, share) for c in checks]
    expected = holm_by_hand(p_fail, p_pass)
    assert [c["verdict"] for c in checks] == expected
    gate_verdict = next(v for v in ("fail", "undecided", "pass") if v in expected or v == "pass")
    assert found["verdict"] == gate_verdict
    assert result.exit_code == {"fail": 1, "undecided": 3, "pass": 0}[gate_verdict]
    for c in checks:
        assert c["found"] == pytest.approx(100 * (1 - c["images_total"] / n))
        assert c["images_counted"] == n
        assert (c["images_to_decide"] is not None) == (c["verdict"] == "undecided")


def judged_freely(reference, model, data, tmp_path, *more):
    """A gate whose exit code the test works out; its result and gate.json."""
    args = [reference, model, "--data", data, *QUICK, *more]
    args += ["--cells", tmp_path / "cells", "--out", tmp_path / "r"]
    result = CliRunner().invoke(vgg_bench, [str(a) for a in args])
    assert "Traceback" not in result.output and result.exit_code in (0, 1, 3), result.output
    return result, json.loads((tmp_path / "r" / "gate.json").read_text())


@pytest.mark.slow
def test_drops_count_the_images_that_only_one_model_has_right(reference, right, tmp_path):
    """Oracle: the tables of best classes, counted by pandas.

    The exact paired test has oracles of its own.
    """
    half = faulty_file(reference, tmp_path, swapped_channels, precision="fp16")
    for limit in ("1", "30", "90"):
        more = ("--scales", "48", "--no-flips", "--max-top1-drop", limit)
        result, found = judged_freely(reference, half, right, tmp_path, *more)
        (check,), n = of(found, "top-1 drop", "half.onnx"), found["images"]
        differences = pd.read_csv(tmp_path / "r" / "differences.csv")
        lost = differences[differences.label == differences.reference_best]
        won = differences[differences.label == differences.model_best]
        assert len(lost) > 5
        assert set(check["images"]) == set(lost.image)
        assert check["images_total"] == len(lost)
        assert check["found"] == pytest.approx(100 * (len(lost) - len(won)) / n)
        accuracy = pd.read_csv(tmp_path / "r" / "accuracy.csv").set_index("model").top1_error_pct
        assert check["found"] == pytest.approx(accuracy["half.onnx"] - accuracy["D.pt"])
        evidence = paired_evidence(len(lost), len(won), n, float(limit) / 100)
        assert [check["verdict"]] == [v.value for v in verdicts([evidence])]
        assert found["passed"] == (check["high"] <= float(limit))
        assert result.exit_code == {"fail": 1, "undecided": 3, "pass": 0}[found["verdict"]]
    assert found["verdict"] == "pass" and "points lower than D.pt's" in check["message"]


def test_a_better_model_is_said_to_be_better(reference, right, tmp_path):
    half = faulty_file(reference, tmp_path, swapped_channels, precision="fp16")
    _, found = judged_freely(
        half, reference, right, tmp_path, "--scales", "48", "--no-flips", "--max-top1-drop", "1"
    )
    (check,) = of(found, "top-1 drop", "D.pt")
    assert check["verdict"] == "pass"
    assert "points higher than half.onnx's" in check["message"]
    assert "below" not in check["message"]


@pytest.mark.slow
def test_undecided_has_an_exit_code_and_the_build_may_say_what_it_means(gate, reference, tmp_path):
    half = faulty_file(reference, tmp_path, None, precision="fp16")
    said, found, xml = gate(half, code=3)
    assert found["verdict"] == "undecided"
    assert found["undecided_counts_as"] is None
    assert "Gate: undecided." in said
    expected = max(c["images_to_decide"] for c in found["checks"] if c["images_to_decide"])
    # oracle: the least n with 0.995^n <= 5 %, as no image speaks against the file
    least = next(n for n in range(1, 10_000) if 0.995**n <= 0.05)
    assert expected == least
    assert f"about {expected:,} would decide" in said
    assert found["images_to_decide"] == expected
    assert f"at least {least} are needed" in said
    undecided = sum(c["verdict"] == "undecided" for c in found["checks"])
    assert int(xml.get("failures")) == undecided > 0 and "Error: the gate is undecided" in said
    _, found, xml = gate(half, code=0, limits=[*GATE, "--undecided", "pass"])
    assert found["verdict"] == "undecided"
    assert (xml.get("failures"), xml.get("skipped")) == (
        "0",
        str(undecided),
    )
    assert len(xml.findall(".//skipped")) == undecided
    said, found, xml = gate(half, code=1, limits=[*GATE, "--undecided", "fail"])
    assert found["verdict"] == "undecided"
    assert int(xml.get("failures")) == undecided
    assert "counts as failed" in said


@pytest.mark.slow
def test_nothing_lost_at_all_is_beyond_any_number_of_images(gate, reference, tmp_path):
    said, found, _ = gate(
        faulty_file(reference, tmp_path, None, precision="fp16"), code=3, limits=STRICT
    )
    assert "a limit above 0 can be decided" in said or "a limit below 100 can be decided" in said


@pytest.mark.slow
def test_an_absolute_limit_judges_every_model_and_one_alone(gate, reference, right, tmp_path):
    sound, limit = faulty_file(reference, tmp_path, None), ["--max-top1-error", "5"]
    more = ("--scales", "48", "--no-flips")
    said, found, _ = gate(sound, code=0, limits=limit, data=right, more=more)
    assert {c["model"] for c in found["checks"] if c["check"] == "top-1 error"} == {
        "D.pt",
        "faulty.onnx",
    }
    assert not found["warnings"]
    _, found, _ = gate(code=0, limits=limit, data=right, more=more)
    assert [c["verdict"] for c in found["checks"] if c["check"] == "top-1 error"] == ["pass"]
    rolled = shutil.copytree(right, tmp_path / "rolled")
    names = [rolled / "val" / kind for kind in CLASSES]
    for i, folder in enumerate(names):
        folder.rename(rolled / "val" / f"{i}")
    for i in range(4):
        (rolled / "val" / f"{i}").rename(names[(i + 1) % 4])
    said, found, _ = gate(sound, code=1, limits=limit, data=rolled, more=more)
    assert {c["model"] for c in found["checks"] if c["verdict"] == "fail"} == {
        "D.pt",
        "faulty.onnx",
    }
    assert "Warning: D.pt may be guessing" in said and "in another order" in found["warnings"][0]


def rows_of(found):
    return {c["rows"] for c in found["checks"] if c["rows"]}


@pytest.mark.slow
def test_rows_that_count_are_chosen(gate, reference, tmp_path):
    half = faulty_file(reference, tmp_path, None, precision="fp16")
    more = ("--scales", "48,80", "--protocols", "dense,centre")
    _, found, _ = gate(half, code=3, more=(*more, "--gate-rows", "dense 48+80 flips"))
    assert rows_of(found) == {"dense, Q 48+80, flips"}
    _, found, _ = gate(
        half, code=3, more=(*more, "--gate-rows", "centre", "--gate-rows", "48, flips")
    )
    assert rows_of(found) == {
        "centre, Q 48",
        "centre, Q 80",
        "centre, Q 48+80",
        "dense, Q 48, flips",
    }
    _, found, _ = gate(half, code=3, more=(*more, "--gate-rows", "dense, Q 48+80, no flips"))
    assert rows_of(found) == {"dense, Q 48+80, no flips"}  # as the report writes it
    args = [reference, half, "--scales", "48", *GATE, "--out", tmp_path / "o", "--gate-rows"]
    said = run(vgg_bench, *args, "dense, Q 96, no flips", code=2)
    assert "no row is 'dense, Q 96, no flips'; choose" in said
    said = run(vgg_bench, *args, "dense 96", code=2)
    rows = "dense Q 48 no-flips; dense Q 48 flips"
    assert "--gate-rows" in said
    assert f"no row is 'dense 96'; choose words from one of these rows: {rows}" in said
    assert "give a limit" in run(vgg_bench, reference, half, "--gate-rows", "dense", code=2)


def test_numbers_in_csv_have_no_dust(tmp_path):
    write_frame(
        pd.DataFrame({"error": [100 * (1 - 0.45), 1 / 3, 1.8e-7, float("nan")], "n": [1, 2, 3, 4]}),
        tmp_path / "a.csv",
    )
    assert (tmp_path / "a.csv").read_text().split() == [
        "error,n",
        "55,1",
        "0.3333333333,2",
        "1.8e-07,3",
        ",4",
    ]


# --- Images left out, and what stays of earlier runs ---


@pytest.mark.slow
def test_images_left_out_fail_the_gate_unless_allowed(gate, reference, photos_copy, tmp_path):
    for name in ("003", "004"):
        (photos_copy / "val" / "disc" / f"{name}.jpeg").write_bytes(b"xx")
    more, sound = ("--scales", "48", "--on-error", "skip"), faulty_file(reference, tmp_path, None)
    said, found, xml = gate(sound, code=1, more=more, data=photos_copy)
    assert failing(found) == {"images left out"}
    assert (
        found["images"],
        found["images_left_out"],
    ) == (22, 2)
    assert "FAIL 2 images left out, allowed 0; on" in said and "003.jpeg" in said
    _, found, _ = gate(sound, code=0, more=(*more, "--max-left-out", "2"), data=photos_copy)
    assert found["verdict"] == "pass"
    assert found["limits"]["left_out"] == 2
    assert len(found["left_out"]) == 2


def test_no_verdict_of_an_earlier_run_survives_an_error(gate, reference, tmp_path):
    _, found, _ = gate(faulty_file(reference, tmp_path, None), code=0)
    assert found["passed"]
    out = tmp_path / "results"
    said = run(vgg_bench, reference, tmp_path / "none.onnx", "--out", out, *GATE, code=2)
    found = json.loads((out / "gate.json").read_text())
    xml = ElementTree.parse(out / "gate.xml").getroot()
    assert found["verdict"] == "error"
    assert not found["passed"]
    assert found["message"] in said
    assert "none.onnx" in found["message"]
    assert xml.get("errors") == "1" and xml.find(".//error") is not None


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (["--max-top1-drop", "1,5"], "'1,5' is not a number"),
        (["--max-top1-drop", "1", "--scales", "x"], "not a list of whole numbers"),
        (["--max-top1-drop", "1", "--bogus"], "--bogus"),
        (["--max-top1-drop", "1", "--measure", "latency"], "add accuracy to --measure"),
        (["--gate-rows", "dense"], "give a limit"),
        (["--mean", "0.5,0.5,200", "--max-left-out", "0"], "give all in one unit"),
    ],
)
def test_a_refused_command_line_withdraws_an_earlier_verdict(tmp_path, refused, words):
    earlier = gate_of(flips_check(Verdict.PASS))
    write_gate(earlier, None, "run 1", tmp_path)
    for name in ("report.md", "report.html", "notes.md"):
        (tmp_path / name).write_text("Gate: pass")
    (tmp_path / "run.json").write_text(json.dumps({"files": ["report.md", "report.html"]}))
    said = run(vgg_bench, "A.pt", *refused, f"--out={tmp_path}", code=2)
    found = json.loads((tmp_path / "gate.json").read_text())
    assert (found["verdict"], found["passed"]) == ("error", False)
    assert found["message"] in said
    assert words in said
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().get("errors") == "1"
    assert {path.name for path in tmp_path.iterdir()} == {
        "gate.json",
        "gate.xml",
        "notes.md",
        "run.json",
    }


def test_a_refused_command_line_without_a_gate_changes_nothing(tmp_path):
    earlier = gate_of(flips_check(Verdict.PASS))
    write_gate(earlier, None, "run 1", tmp_path)
    run(vgg_bench, "A.pt", "--scales", "x", "--out", tmp_path, code=2)
    assert json.loads((tmp_path / "gate.json").read_text())["passed"]
    run(vgg_bench, "A.pt", "--max-top1-drop", "x", "--out", tmp_path / "new", code=2)
    assert not (tmp_path / "new").exists()


def test_results_cannot_go_into_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    for out in (tmp_path / "a.txt", tmp_path / "a.txt" / "below"):
        said = run(vgg_bench, "A.pt", "--max-top1-error", "5", "--out", out, code=2)
        assert f"{out}: is not a folder; choose another with --out" in said
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_a_run_under_way_is_unfinished(tmp_path):
    (tmp_path / "gate.xml").write_text("<testsuites/>")
    with verdict_on_disk(tmp_path, GateLimits(top1_drop=1), "run 1"):
        assert json.loads((tmp_path / "gate.json").read_text())["verdict"] == "unfinished"
        assert "error" in (tmp_path / "gate.xml").read_text()
    with (
        pytest.raises(KeyboardInterrupt),
        verdict_on_disk(tmp_path, GateLimits(top1_drop=1), "run 2"),
    ):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "gate.json").read_text())["message"] == "interrupted"
    verdict = gate_of(flips_check(Verdict.FAIL))
    with pytest.raises(InputError), verdict_on_disk(tmp_path, GateLimits(top1_drop=1), "run 3"):
        write_gate(verdict, None, "run 3", tmp_path)
        raise InputError("after the verdict")
    assert json.loads((tmp_path / "gate.json").read_text())["verdict"] == "fail"


def test_names_in_junit_are_unique_and_clean(tmp_path):
    checks = [
        Check(
            "B\x01.pt",
            "finite posteriors",
            rows,
            Verdict.FAIL,
            "line\nbreak \x1b]0;",
            images=("a\n::error::x",),
        )
        for rows in ("", "Q 48", "Q 48")
    ]
    gate = gate_of(*checks, Check("a", "flips", "", Verdict.UNDECIDED, "?"))
    write_gate(gate, None, "run", tmp_path)
    root = ElementTree.parse(tmp_path / "gate.xml").getroot()
    names = Counter((case.get("classname"), case.get("name")) for case in root.iter("testcase"))
    assert max(names.values()) == 1
    assert len(names) == 4 == int(root.get("tests")) == int(root.get("failures"))
    assert all("\n" not in line and "\x1b" not in line for line in lines(gate))


def test_the_headline_promises_no_images_for_a_limit_that_none_decide():
    decidable, never = (
        Check("a", "agreement", f"Q {expected}", Verdict.UNDECIDED, "?", images_to_decide=expected)
        for expected in (299, None)
    )
    for checks, end in (
        (
            [decidable, decidable],
            "2 of 2 checks are undecided on 1 images; about 299 would decide.",
        ),
        ([decidable, never], "about 299 would decide 1 of them, and only another limit the rest."),
        ([never], "no number of images decides them, only another limit does."),
    ):
        assert lines(gate_of(*checks))[-1].endswith(end)


def test_a_wall_of_failures_is_summarised():
    checks = [
        Check(f"{m}.onnx", "agreement", f"Q {q}", Verdict.FAIL, f"{q}", q, 99)
        for m in range(40)
        for q in (1, 2, 3)
    ]
    told = lines(gate_of(*checks))
    assert len(told) == MOST_LINES + 3
    assert "(3 of 3 rows, the worst Q 1): 1" in told[0]
    assert "and 20 more" in told[MOST_LINES]


# --- As many images as it takes ---


def test_the_order_is_random_fixed_and_free_of_the_listing():
    files = [f"val/{kind}/{i:04d}.jpeg" for kind in CLASSES for i in range(500)]
    order = fixed_order(files)
    assert sorted(order) == list(range(2000)) and np.array_equal(order, fixed_order(tuple(files)))
    first = np.bincount(order[:400] // 500, minlength=4)
    assert stats.chisquare(first).pvalue > 0.001
    assert abs(stats.spearmanr(order, np.arange(2000)).statistic) < 0.1
    added = [*files, "val/disc/new.jpeg"]
    assert [files[i] for i in order] == [added[i] for i in fixed_order(added) if i < 2000]
    steps = list(looks(2000))
    assert steps[0] == FIRST
    assert steps[-1] == 2000
    assert steps == sorted(set(steps))
    assert list(looks(7)) == [7]


AUTO = ["--min-agreement", "85", "--images", "auto"]
ROW = ("--scales", "48", "--no-flips")


@pytest.mark.slow
def test_auto_stops_when_sure_and_decides_the_same_from_stored_cells(
    gate, reference, right, tmp_path
):
    half = faulty_file(reference, tmp_path, None, precision="fp16")
    said, first, _ = gate(half, code=0, limits=AUTO, data=right, more=ROW)
    assert FIRST <= first["images"] < first["images_in_data"] == len(open_dataset(right, "val"))
    assert "Gate: pass." in said
    assert first["level"] == 0.01 and "Waudby-Smith" in first["method"]
    names = [
        open_dataset(right, "val").files[i] for i in fixed_order(open_dataset(right, "val").files)
    ][: first["images"]]
    assert len(names) == first["images"]
    cells = [
        np.load(path)["posterior"] if np.load(path).dtype.names else np.load(path)
        for path in (tmp_path / "cells").glob("*.npy")
    ]
    assert [int((cell.sum(axis=1) > 0.5).sum()) for cell in cells] == [first["images"]] * 2
    _, again, _ = gate(half, code=0, limits=AUTO, data=right, more=ROW)
    gate(half, code=0, limits=["--min-agreement", "85"], data=right, more=ROW)  # every image
    _, third, _ = gate(half, code=0, limits=AUTO, data=right, more=ROW)
    for later in (again, third):
        assert {**later, "run_id": ""} == {**first, "run_id": ""}


@pytest.mark.slow
def test_auto_fails_soon_and_goes_to_the_end_where_nothing_is_sure(
    gate, reference, right, tmp_path
):
    wrong = faulty_file(reference, tmp_path, permuted_classes, precision="fp16")
    said, found, _ = gate(wrong, code=1, limits=AUTO, data=right, more=ROW)
    assert found["images"] == FIRST
    assert "Gate: fail." in said
    assert f"{FIRST} of {found['images_in_data']} images" in said
    half = faulty_file(reference, tmp_path, None, precision="fp16")
    said, found, _ = gate(
        half, code=3, limits=["--max-top1-drop", "0.1", "--images", "auto"], data=right, more=ROW
    )
    assert found["images"] == found["images_in_data"] and "Gate: undecided." in said


@pytest.mark.slow
def test_auto_leaves_out_what_cannot_be_read(gate, reference, right, tmp_path):
    data, half = (
        shutil.copytree(right, tmp_path / "data"),
        faulty_file(reference, tmp_path, None, precision="fp16"),
    )
    files = open_dataset(data, "val").files
    (data / files[fixed_order(files)[3]]).write_bytes(b"xx")
    more = (*ROW, "--on-error", "skip")
    _, found, _ = gate(half, code=1, limits=AUTO, data=data, more=more)
    assert failing(found) == {"images left out"} and found["images_left_out"] == 1
    _, found, _ = gate(half, code=0, limits=[*AUTO, "--max-left-out", "1"], data=data, more=more)
    assert found["images"] < found["images_in_data"]


# --- Photos without labels ---


@pytest.fixture
def flat(photos, tmp_path):
    folder = tmp_path / "flat"
    (folder / "trip" / "day 1").mkdir(parents=True)
    for i, file in enumerate(sorted((photos / "val").glob("*/*"))):
        shutil.copy(file, folder / f"{i:03d}.jpeg")
    (folder / "trip" / "day 1").rmdir()
    (folder / "trip").rmdir()
    return folder


@pytest.mark.slow
def test_photos_without_labels_are_judged_by_agreement_and_posteriors(
    gate, reference, flat, tmp_path
):
    said, found, _ = gate(
        faulty_file(reference, tmp_path, None), code=0, limits=["--min-agreement", "99"], data=flat
    )
    assert "No labels: the models' answers are compared" in said and found["images"] == 24
    out = tmp_path / "results"
    accuracy, comparisons = pd.read_csv(out / "accuracy.csv"), pd.read_csv(out / "comparisons.csv")
    assert (
        accuracy[["top1_error_pct", "top1_low_pct", "top5_error_pct", "ece_pct"]]
        .isna()
        .all(axis=None)
    )
    assert accuracy.ms_per_image.notna().all()
    assert comparisons[["top1_difference_pct", "top1_p", "only_model_right"]].isna().all(axis=None)
    assert (comparisons.largest_posterior_difference < 1e-5).all()
    assert (comparisons.agreement_pct == 100).all()
    assert not (out / "per_class.csv").exists()
    tables = (out / "report.md").read_text().partition("```")[0]  # without the environment
    assert "nan" not in tables.lower()
    assert "These images have no labels" in (out / "report.html").read_text()
    said, found, _ = gate(
        faulty_file(reference, tmp_path, mean_shifted),
        code=1,
        limits=["--min-agreement", "0"],
        data=flat,
    )
    assert failing(found) == {"posterior difference"}


@pytest.mark.slow
def test_labelled_and_unlabelled_photos_agree_alike(gate, reference, photos, flat, tmp_path):
    """Oracle: the same images in class folders."""
    model = faulty_file(reference, tmp_path, swapped_channels)
    tables = []
    for data, more in ((photos, ()), (flat, ()), (photos, ("--no-labels",))):
        gate(
            model,
            code=1,
            limits=["--min-agreement", "100"],
            data=data,
            more=("--scales", "48", *more),
        )
        tables.append(
            pd.read_csv(tmp_path / "results" / "comparisons.csv")[
                ["agreement_pct", "largest_posterior_difference", "mean_total_variation"]
            ]
        )
    for table in tables[1:]:
        np.testing.assert_allclose(table, tables[0], rtol=1e-6)


def test_a_drop_needs_labels(gate, reference, flat, tmp_path):
    sound = faulty_file(reference, tmp_path, None)
    for limit in (["--max-top1-drop", "1"], ["--max-top5-drop", "1"], ["--max-top1-error", "50"]):
        said = run(
            vgg_bench, reference, sound, "--data", flat, "--out", tmp_path / "r", *limit, code=2
        )
        assert "these images have no labels" in said and "--min-agreement" in said
    other = save_net(thin_net("D", classes=("a", "b", "c", "d")), tmp_path / "other.pt")
    args = ["--data", flat, "--out", tmp_path / "r", "--scales", "48", "--measure", "accuracy"]
    said = run(vgg_bench, reference, other, *args, code=2)
    assert "without labels all models must have the same classes" in said


@pytest.mark.slow
def test_paper_tables_step_back_without_labels(reference, flat, tmp_path):
    kept = ["--cells", tmp_path / "c", "--out", tmp_path / "r"]
    run(vgg_bench, reference, "--data", flat, "--paper-tables", *QUICK, *kept)
    assert not (tmp_path / "r" / "paper_tables.csv").exists()


# --- Options ---


def test_every_option_of_the_gate_withdraws_an_earlier_verdict():
    assert {field.name for field in fields(GateRequest)} == set(GATE_OPTIONS)


def test_options_of_the_gate(reference, photos, tmp_path, here):
    assert "name the reference and at least one more" in run(
        vgg_bench, reference, "--data", photos, *GATE, code=2
    )
    assert "add accuracy to --measure" in run(
        vgg_bench, reference, reference, "--measure", "latency", *GATE, code=2
    )
    assert "named twice" in run(vgg_bench, reference, reference, "--data", photos, *GATE, code=2)
    assert "--images auto" in run(vgg_bench, reference, "--images", "auto", code=2)
    assert "--min-agreement" in run(
        vgg_bench, reference, "--images", "auto", "--max-posterior-difference", "1", code=2
    )
    assert "neither a number of images nor auto" in run(
        vgg_bench, reference, "--images", "few", code=2
    )
    args = ["--data", tmp_path, "--no-labels", "--max-top1-error", "5", "--out", tmp_path]
    said = run(vgg_bench, reference, *args, code=2)
    assert "--no-labels says that there are none; leave one of the two out" in said
    assert "--no-labels is about the images of --data" in run(
        vgg_bench, reference, "--no-labels", code=2
    )


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "-inf", "1e9", "0.5%", "half", ""])
@pytest.mark.parametrize(
    "option",
    [
        "--max-top1-drop",
        "--max-top5-drop",
        "--min-agreement",
        "--max-top1-error",
        "--max-posterior-difference",
    ],
)
def test_a_limit_that_limits_nothing_is_refused(reference, option, value):
    said = run(vgg_bench, reference, option, value, code=2)
    assert option in said
    assert repr(value) in said
    assert "write a number from 0 to" in said
    assert "such as" in said
