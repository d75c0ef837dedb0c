"""Answers of two runs, image by image. Oracle: the predictions of both, counted one by one."""

import numpy as np
import pandas as pd
import pytest

from bench.accuracy.compare import mcnemar_p, paired_interval_pct
from bench.accuracy.predicted import predictions
from bench.earlier.answers import compare_answers, hashes_of
from bench.earlier.comparison import Against
from bench.earlier.run import open_earlier
from bench.report.tables import write_frame, write_frames
from tests.support.cells import measure
from tests.support.nets import save_net, thin_net
from tests.support.old_results import old_results
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256

ID = ["model", "runtime", "precision", "protocol", "scales", "flips"]


@pytest.fixture(scope="module")
def accuracy(photos, tmp_path_factory):
    """Two rows of a net on 24 photos."""
    folder = tmp_path_factory.mktemp("answers")
    net = save_net(thin_net("A"), folder / "A.pt")
    return measure([net], photos, folder / "cells", sides=(48, 64))


def table_of(accuracy) -> pd.DataFrame:
    """What predictions.csv holds of a run."""
    parts = [
        part
        for one in accuracy.scored
        for part in predictions(one, accuracy.files, accuracy.classes)
    ]
    return pd.concat(parts, ignore_index=True)


def earlier(folder, accuracy, table, hashes=True):
    """The folder of a run with these predictions."""
    old_results(folder)
    write_frames([table], folder / "predictions.csv")
    if hashes:
        known = hashes_of(accuracy)
        frame = pd.DataFrame({"image": list(known), "sha256": list(known.values())})
        write_frame(frame, folder / "images.csv")
    return open_earlier(folder)


def changed(table: pd.DataFrame, seed=0) -> pd.DataFrame:
    """Other answers and ranks for a third of the images."""
    rng = np.random.default_rng(seed)
    table = table.copy()
    at = rng.choice(len(table), len(table) // 3, replace=False)
    table.loc[at, "rank"] = rng.integers(1, 5, len(at))
    table.loc[at, "best"] = rng.choice(["disc", "square", "a class of that run"], len(at))
    return table


def test_hashes_are_those_of_the_files(accuracy, photos):
    found = hashes_of(accuracy)
    assert len(found) == 24
    assert all(sha256(photos / name) == digest for name, digest in found.items())


def test_counts_and_intervals_are_those_of_the_two_tables(accuracy, tmp_path):
    new, old = table_of(accuracy), changed(table_of(accuracy))
    answers = compare_answers(earlier(tmp_path / "r", accuracy, old), accuracy)
    assert len(answers.pairs) == len(accuracy.scored) == 3 and not answers.new + answers.lost
    both = new.merge(old, on=[*ID, "image"])
    for one, (_, group) in zip(answers.pairs, both.groupby(ID, sort=False), strict=True):
        found = one.pair.comparison
        assert found.images == len(group) == 24 and one.files == group.image.tolist()
        for k, difference in ((1, found.top1_difference_pct), (5, found.top5_difference_pct)):
            was, now = group.rank_y <= k, group.rank_x <= k
            b, c = int((was & ~now).sum()), int((now & ~was).sum())
            assert difference == pytest.approx(100 * (b - c) / 24)
            if k == 1:
                assert (found.only_reference_right, found.only_model_right) == (b, c)
                assert found.top1_p == mcnemar_p(b, c)
                interval = paired_interval_pct(b, c, 24)
                assert (found.top1_low_pct, found.top1_high_pct) == tuple(interval)
                assert one.errors.old_top1 == pytest.approx(100 * (1 - was.mean()))
                assert one.errors.new_top1 == pytest.approx(100 * (1 - now.mean()))
        assert found.agreement_pct == pytest.approx(100 * (group.best_x == group.best_y).mean())
        assert found.reference == "A.pt of 2026-01-01 00:00"


def test_rows_that_only_one_run_has_are_named(accuracy, tmp_path):
    old = table_of(accuracy)
    lost = old[old.scales == "48"].assign(model="gone.pt")
    old = pd.concat([old[old.scales != "64"], lost])
    answers = compare_answers(earlier(tmp_path / "r", accuracy, old), accuracy)
    assert answers.new == ["A.pt (torch fp32), dense, Q 64, no flips"]
    assert answers.lost == ["gone.pt (torch fp32), dense, Q 48, no flips"]
    assert len(answers.pairs) == 2
    against = Against(open_earlier(tmp_path / "r"))
    against.add_answers(answers)
    assert "Not in the earlier run: A.pt (torch fp32), dense, Q 64, no flips." in against.lines
    assert "Only in the earlier run: gone.pt (torch fp32), dense, Q 48, no flips." in against.lines
    rows = [row for row in against.rows if row.measure == "top-1 error"]
    assert [row.row for row in rows] == ["dense, Q 48, no flips", "dense, Q 48+64, no flips"]
    assert [row.difference for row in rows] == [0, 0] and rows[0].old == rows[0].new


def test_only_images_of_the_same_content_and_label_are_compared(accuracy, tmp_path):
    """Two were not there, one had other bytes, one another label."""
    files = accuracy.files
    old = table_of(accuracy)
    old = old[~old.image.isin(files[:2])].reset_index(drop=True)
    old.loc[old.image == files[5], "label"] = "another"
    run = earlier(tmp_path / "r", accuracy, old)
    hashes = pd.read_csv(tmp_path / "r" / "images.csv")
    hashes.loc[hashes.image == files[9], "sha256"] = "0" * 64
    write_frame(hashes, tmp_path / "r" / "images.csv")
    answers = compare_answers(run, accuracy)
    kept = [name for i, name in enumerate(files) if i not in (0, 1, 5, 9)]
    assert all(sorted(one.files) == sorted(kept) for one in answers.pairs)
    assert answers.images.startswith("Compared on the 20 of 24 images with the same content")
    assert f"Another content: {files[9]}." in answers.images
    assert "their label is another now: 1 images" in answers.images


def test_without_hashes_images_are_compared_by_name_and_that_is_said(accuracy, tmp_path):
    run = earlier(tmp_path / "r", accuracy, table_of(accuracy), hashes=False)
    answers = compare_answers(run, accuracy)
    assert "24 of 24 images with the same name" in answers.images
    assert "has no images.csv, so another content may go unseen" in answers.images


def test_without_labels_answers_are_compared_and_errors_are_not(accuracy, tmp_path):
    old = table_of(accuracy).assign(label=None, rank=None)
    old.loc[0, "best"] = "triangle" if old.best[0] != "triangle" else "disc"
    answers = compare_answers(earlier(tmp_path / "r", accuracy, old), accuracy)
    first = answers.pairs[0]
    assert first.pair.comparison.agreement_pct == pytest.approx(100 * 23 / 24)
    assert np.isnan(first.errors.old_top1) and not first.pair.other.labelled


def test_nothing_in_common_is_said(accuracy, tmp_path):
    run = open_earlier(old_results(tmp_path / "r"))
    answers = compare_answers(run, accuracy)
    assert not answers.pairs and len(answers.new) == 3
    assert "No row and image of both runs is the same" in answers.images
    table = table_of(accuracy).assign(image="other")
    table["image"] = [f"{i}.jpg" for i in range(len(table))]
    answers = compare_answers(earlier(tmp_path / "s", accuracy, table), accuracy)
    assert not answers.pairs and len(answers.new) == 3 and not answers.lost


def test_an_image_that_is_there_twice_is_damage(accuracy, tmp_path):
    table = table_of(accuracy)
    with pytest.raises(InputError, match="names an image twice"):
        compare_answers(earlier(tmp_path / "r", accuracy, pd.concat([table, table])), accuracy)
