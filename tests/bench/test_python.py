"""evaluate and check from Python: the tables of vgg-bench, and exact work per image."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vgg_deploy as vd
from bench.cli import main as vgg_bench
from bench.python import check, evaluate
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import content_sha256
from vgg_deploy.images.geometry import rescaled_size


@pytest.fixture
def pair(tmp_path):
    """A net and another one of the same classes."""
    return [
        save_net(thin_net(arch, seed=i), tmp_path / f"{arch}.pt") for i, arch in enumerate("AB")
    ]


@pytest.mark.slow
def test_tables_are_those_of_the_command(pair, photos, here):
    options = ["--data", photos, "--scales", "32,48", "--protocols", "dense,centre"]
    options += ["--measure", "accuracy", "--threads", "1", "--cells", "cells"]
    run(vgg_bench, *pair, *options)
    found = evaluate(
        pair, photos, scales=(48, 32), protocols=("dense", "centre"), cells="cells", threads=1
    )
    for name in ("accuracy", "comparisons", "predictions"):
        table = getattr(found, name)
        table.to_csv("again.csv", index=False, float_format="%.10g")
        again, written = pd.read_csv("again.csv"), pd.read_csv(f"results/{name}.csv")
        pd.testing.assert_frame_equal(again, written)
    predictions = found.predictions
    assert len(predictions) == 24 * len(found.accuracy)
    keys = ["model", "protocol", "scales", "flips"]
    errors = predictions.groupby(keys)["rank"].agg(lambda ranks: 100 * float((ranks > 1).mean()))
    expected = found.accuracy.set_index(keys).top1_error_pct
    pd.testing.assert_series_equal(
        errors.astype(float).sort_index(), expected.sort_index(), check_names=False
    )
    assert (predictions["rank"].eq(1) == (predictions.label == predictions.best)).all()


def test_posteriors_are_those_of_predict(pair, photos):
    """Two ways to the same number: cells of a data set, and images in memory."""
    data, model = vd.open_data(photos), vd.load(pair[0], threads=1)
    found = evaluate(model, data, scales=48, cells=None, threads=1).predictions
    found = found[found.flips]
    files = [data.path(i) for i in range(len(data))]
    predicted = model.predict(files, side=48)
    np.testing.assert_allclose(found.posterior, predicted.posterior.max(axis=1), atol=1e-6)
    assert found.best.tolist() == [one.best[0].id for one in predicted]
    assert not list(photos.glob("**/*.npy"))


def counted_macs(net, height, width) -> int:
    """PyTorch's own count of a forward pass, which counts two operations per product."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() // 2


@pytest.mark.slow
def test_work_per_image_is_exact(photos, tmp_path):
    net = thin_net("D")
    path = save_net(net, tmp_path / "D.pt")
    data = vd.open_data(photos)
    table = evaluate(
        path,
        data,
        scales=(32, 50),
        protocols=("dense", "multicrop", "multicrop+dense", "centre", "ten", "googlenet"),
        cells=None,
        threads=1,
    ).accuracy
    at_crop = counted_macs(net, 32, 32)
    dense = {
        side: np.mean(
            [counted_macs(net, *rescaled_size(*data.size(i), side)) for i in range(len(data))]
        )
        for side in (32, 50)
    }
    for row in table.itertuples():
        sides = [int(side) for side in row.scales.split("+")]
        turns = 2 if row.flips else 1
        crops = {"multicrop": 25, "multicrop+dense": 25, "centre": 1, "ten": 5, "googlenet": 18}
        per_side = crops.get(row.protocol, 0) * at_crop
        expected = turns * len(sides) * per_side
        if "dense" in row.protocol:
            expected += turns * sum(dense[side] for side in sides)
        assert row.gmacs_per_image == pytest.approx(expected / 1e9, rel=1e-12), row


def test_unreadable_images_do_not_count_as_work(photos_copy, tmp_path):
    path = save_net(thin_net("A"), tmp_path / "A.pt")
    options = {"scales": 32, "flips": False, "cells": None, "threads": 1}
    bad = photos_copy / "val" / "disc" / "000.jpeg"
    bad.write_bytes(bad.read_bytes()[:300])
    found = evaluate(path, photos_copy, on_error="skip", **options).accuracy
    bad.unlink()
    expected = evaluate(path, photos_copy, **options).accuracy
    assert found.images[0] == expected.images[0] == 23
    assert found.gmacs_per_image[0] == expected.gmacs_per_image[0] > 0


def test_images_without_labels_have_no_label_and_no_rank(pair, photos):
    flat = photos / "val" / "disc"
    found = evaluate(pair, flat, scales=32, cells=None, threads=1)
    assert found.predictions[["label", "rank"]].isna().all(axis=None)
    assert found.accuracy.top1_error_pct.isna().all()
    assert found.comparisons.agreement_pct.between(0, 100).all()


def test_one_model_has_an_empty_table_of_comparisons(pair, photos):
    one = evaluate(pair[0], photos, scales=32, cells=None, threads=1).comparisons
    two = evaluate(pair, photos, scales=32, cells=None, threads=1).comparisons
    assert len(one) == 0 and list(one.columns) == list(two.columns)


def test_paper_tables_are_filled(pair, photos):
    tables = evaluate(pair, photos, cells=None, threads=1).paper_tables()
    assert set(tables.table) == {3, 4, 5, 6, 7}
    measured = tables[tables.top1_measured.notna()]
    assert {"A.pt", "B.pt"} <= set(measured.model) and set(measured.table) >= {3, 4}


def test_a_gate_is_true_only_if_it_passed(pair, photos, tmp_path):
    options = {"scales": 32, "cells": None, "threads": 1}
    net = thin_net("A")
    exported = written_onnx(tmp_path / "A.onnx", net, content_sha256(pair[0]))
    passed = check(pair[0], exported, photos, max_top1_drop=0.5, **options)
    assert passed and passed.verdict == "pass" and passed.failures == passed.undecided == []
    failed = check(pair[0], pair[1], photos, min_agreement=100, **options)
    assert not failed and failed.verdict == "fail"
    assert any("B.pt" in text for text in failed.failures)
    assert {"model", "check", "verdict", "message"} <= set(failed.checks.columns)
    agreement = failed.evaluation.comparisons.agreement_pct
    assert (agreement < 100).any()
    open_question = check(pair[0], pair[1], photos, max_top1_drop=20, **options)
    if open_question.verdict == "undecided":
        assert not open_question and open_question.undecided


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "nothing is limited"),
        ({"max_top1_drop": -1}, "max_top1_drop -1 is no limit; give a number from 0 to 100"),
        ({"min_agreement": float("nan")}, "min_agreement nan is no limit"),
        ({"max_top1_drop": 1, "rows": ["ten"]}, "no row is 'ten'"),
        ({"max_top1_drop": 1, "protocols": "tenfold"}, "'tenfold' is unknown"),
        ({"max_top1_drop": 1, "scales": 16}, "16: below the crop 32"),
        ({"max_top1_drop": 1, "batch": 0}, "a batch of 0 images is empty"),
        ({"max_top1_drop": 1, "on_error": "ignore"}, "on_error 'ignore' is unknown"),
    ],
)
def test_wrong_settings_are_refused(limits, message, pair, photos):
    settings = {"scales": 32, "cells": None, "threads": 1, **limits}
    with pytest.raises(InputError, match=message):
        check(pair[0], pair[1], photos, **settings)


def test_limits_on_accuracy_need_labels(pair, photos):
    flat = photos / "val" / "disc"
    with pytest.raises(InputError, match="these images have no labels"):
        check(pair[0], pair[1], flat, max_top1_drop=1, cells=None, threads=1)


def test_an_assumed_class_order_is_reported(photos, tmp_path, capfd):
    net = thin_net("A", classes=("0", "1", "2", "3"))
    evaluate(save_net(net, tmp_path / "A.pt"), photos, scales=32, cells=None, threads=1)
    assert "A.pt names no classes: taken in the order disc, square" in capfd.readouterr().err
