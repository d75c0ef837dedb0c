"""Boxes: geometry, forms, windows, merging and errors against plain loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from tests.support import naive_boxes as naive
from vgg_deploy.boxes.answers import MOST_BOXES, Merging, ScaleView, merged_box
from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.boxes.forms import BOX_FORMS, read_boxes, state_boxes
from vgg_deploy.boxes.geometry import areas, clipped, iou, mirrored, scaled
from vgg_deploy.boxes.localisation_error import best_overlap, is_right, rank_of_right_answer
from vgg_deploy.boxes.merging import match_scores, merge
from vgg_deploy.boxes.outputs import boxes_of_class, boxes_of_map
from vgg_deploy.boxes.windows import crop_window, map_windows
from vgg_deploy.images.crops import centre
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.net.archs import map_side
from vgg_deploy.net.box_outputs import BOX_FORM_NAMES, output_channels


def random_boxes(count, seed, size=100.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.1, size / 2, (count, 2))], axis=1)


def test_overlaps_agree_with_torchvision_and_with_loops():
    boxes, others = random_boxes(40, 1), random_boxes(30, 2)
    found = iou(boxes[:, None], others)
    oracle = box_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, oracle, rtol=1e-12)
    loops = [[naive.overlap(box, other) for other in others] for box in boxes]
    np.testing.assert_allclose(found, loops, rtol=1e-12)
    np.testing.assert_allclose(areas(boxes), [naive.area(box) for box in boxes])


def test_overlaps_in_closed_form():
    unit = np.array([0.0, 0, 1, 1])
    for shift in (0.0, 0.25, 0.5, 1.0, 3.0):
        common = max(0.0, 1 - shift)
        assert iou(unit, unit + [shift, 0, shift, 0]) == pytest.approx(common / (2 - common))
    assert iou(unit, np.array([0.25, 0.25, 0.75, 0.75])) == 0.25
    assert iou(np.zeros(4), np.zeros(4)) == 0 and iou(unit, np.array([1.0, 1, 0, 0])) == 0
    assert np.isnan(iou(unit, np.array([0, 0, np.nan, 1])))


def test_parts_mirror_images_and_scales():
    box = np.array([10.0, 20, 30, 60])
    assert clipped(box, np.array([15, 0, 20, 40])).tolist() == [15, 20, 20, 40]
    assert areas(clipped(box, np.array([40, 0, 50, 90]))) == 0
    assert mirrored(box, 100).tolist() == [70, 20, 90, 60]
    assert mirrored(mirrored(box, 100), 100).tolist() == box.tolist()
    assert scaled(box, (100, 200), (50, 300)).tolist() == [15, 10, 45, 30]


def test_the_papers_form_is_torchvisions():
    """torchvision's cxcywh of boxes whose origin and unit are the window's."""
    boxes, window = random_boxes(20, 3), np.array([16.0, 48, 240, 272])
    found = state_boxes(boxes, window, "centre")
    relative = (boxes - [128, 160, 128, 160]) / 224
    oracle = box_convert(torch.from_numpy(relative), "xyxy", "cxcywh").numpy()
    np.testing.assert_allclose(found, oracle, atol=1e-12)
    assert state_boxes(window, window, "centre").tolist() == [0, 0, 1, 1]
    assert state_boxes(window, window, "edges").tolist() == [-0.5, -0.5, 0.5, 0.5]


def test_every_form_has_its_name():
    assert tuple(BOX_FORMS) == BOX_FORM_NAMES


@pytest.mark.parametrize("form", BOX_FORMS)
def test_what_is_stated_is_read_back(form):
    boxes, windows = random_boxes(20, 4), random_boxes(20, 5) + [0, 0, 30, 30]
    np.testing.assert_allclose(read_boxes(state_boxes(boxes, windows, form), windows, form), boxes)


@pytest.mark.parametrize(
    ("height", "width", "side", "crop"),
    [(224, 224, 224, 224), (375, 500, 256, 224), (500, 375, 352, 224), (97, 171, 110, 96)],
)
def test_windows_are_those_of_plain_loops(height, width, side, crop):
    windows = map_windows(height, width, side, crop)
    at_q = rescaled_size(height, width, side)
    assert windows.shape == (map_side(at_q[0], crop), map_side(at_q[1], crop), 4)
    for row, column in np.ndindex(windows.shape[:2]):
        oracle = naive.window(row, column, height, width, side, crop)
        np.testing.assert_allclose(windows[row, column], oracle, rtol=1e-12)
    assert (windows[..., 2] <= width).all() and (windows[..., 3] <= height).all()


def test_the_net_sees_its_windows():
    """A bright square lights up the pool5 cell that its place says, and so the windows' origin."""
    pooled = torch.nn.MaxPool2d(32)
    image = torch.zeros(1, 1, 256, 341)
    image[..., 130:140, 300:310] = 1
    row, column = (pooled(image)[0, 0] > 0).nonzero()[0].tolist()
    first = map_windows(256, 341, 256, 32)[row, column]
    assert first[0] <= 300 and first[2] >= 310 and first[1] <= 130 and first[3] >= 140


def test_the_window_of_the_centre_crop():
    (crop,) = centre(256, 341, 224)
    window = crop_window(375, 500, 256, crop)
    assert window.tolist() == pytest.approx(
        [58 * 500 / 341, 16 * 375 / 256, 282 * 500 / 341, 240 * 375 / 256]
    )


def test_output_maps_are_read_class_by_class():
    rng = np.random.default_rng(6)
    windows = map_windows(300, 420, 288, 224)
    h, w = windows.shape[:2]
    output = rng.normal(0, 0.3, (12, h, w)).astype(np.float32)
    stated = boxes_of_map(output, windows, "centre")
    assert output_channels("per-class", 3) == 12 and output_channels("shared", 3) == 4
    for label, row, column in np.ndindex(3, h, w):
        x, y, width, height = output[4 * label : 4 * label + 4, row, column].astype(float)
        left, top, right, bottom = windows[row, column]
        side_x, side_y = right - left, bottom - top
        middle_x, middle_y = (left + right) / 2 + x * side_x, (top + bottom) / 2 + y * side_y
        box = [
            middle_x - width * side_x / 2,
            middle_y - height * side_y / 2,
            middle_x + width * side_x / 2,
            middle_y + height * side_y / 2,
        ]
        np.testing.assert_allclose(stated[label, row * w + column], box, rtol=1e-9)
    shared = boxes_of_map(output[:4], windows, "centre")
    assert shared.shape == (1, h * w, 4)
    np.testing.assert_array_equal(boxes_of_class(shared, 2), shared[0])
    np.testing.assert_array_equal(boxes_of_class(stated, 2), stated[2])
    with pytest.raises(ValueError, match="does not fit"):
        boxes_of_map(output, windows[:1], "centre")


def test_matches_in_closed_form():
    box = np.array([0.0, 0, 3, 4])
    far = box + [30, 40, 30, 40]
    found = match_scores(box, np.stack([box, far, np.array([0.0, 0, 3, 2])]))
    assert found[:2].tolist() == [0, 50 / 5 + 1]
    assert found[2] == pytest.approx(1 / ((5 + math.hypot(3, 2)) / 2) + 1 - 0.5)
    assert match_scores(np.zeros(4), np.zeros((1, 4))).tolist() == [1]


numbers = st.integers(0, 12)
box = st.tuples(numbers, numbers, st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 5)), max_size=9), st.sampled_from([0, 0.4, 0.8, 3]))
def test_merging_agrees_with_plain_loops(cases, threshold):
    """Small whole numbers, so that equal matches and boxes without area are common."""
    boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _ in cases], float).reshape(-1, 4)
    scores = np.array([score for _, score in cases], float)
    found = merge(boxes, scores, threshold)
    oracle = naive.merge(boxes.tolist(), scores.tolist(), threshold)
    assert len(found.boxes) == len(oracle)
    for index, (expected, rating) in enumerate(oracle):
        np.testing.assert_allclose(found.boxes[index], expected, rtol=1e-12)
        assert found.ratings[index] == pytest.approx(rating)


def test_a_match_at_the_threshold_merges():
    twice = np.array([[0.0, 0, 3, 4]] * 2)
    assert merge(twice, np.array([1.0, 2.0]), 0).ratings.tolist() == [3]
    apart = np.array([[0.0, 0, 3, 4], [3.0, 4, 6, 8]])  # centres one diagonal apart: 1 + 1
    assert len(merge(apart, np.ones(2), 2).boxes) == 1
    assert len(merge(apart, np.ones(2), 1.999).boxes) == 2


def test_many_boxes_merge_as_plain_loops_do():
    boxes, scores = random_boxes(60, 7), np.random.default_rng(8).random(60)
    found = merge(boxes, scores, 0.9)
    oracle = naive.merge(boxes, scores, 0.9)
    assert 1 < len(oracle) < 50
    np.testing.assert_allclose(found.boxes, [one for one, _ in oracle], rtol=1e-10)
    np.testing.assert_allclose(found.ratings, [rating for _, rating in oracle])


def test_errors_agree_with_plain_loops():
    rng = np.random.default_rng(9)
    answers, labels, true_boxes, ranks = [], [], [], []
    for image in range(200):
        true = random_boxes(1 + image % 3, image)
        label = int(rng.integers(4))
        given = [
            (int(rng.integers(4)), true[rng.integers(len(true))] + rng.normal(0, 8, 4))
            for _ in range(5)
        ]
        answers.append(given)
        labels.append(label)
        true_boxes.append(true)
        named, boxes = zip(*given, strict=True)
        ranks.append(rank_of_right_answer(named, boxes, label, true))
    for k in (1, 5):
        found = 100 * np.mean(np.array(ranks) >= k)
        assert found == pytest.approx(naive.localisation_errors(answers, labels, true_boxes, k))
        assert 5 < found < 95


def test_half_is_not_more_than_half():
    true = np.array([[0.0, 0, 2, 2]])
    assert not is_right(np.array([0.0, 0, 2, 1]), true)
    assert is_right(np.array([0.0, 0, 2, 1.001]), true)
    assert not is_right(None, true) and best_overlap(np.array([0, 0, np.inf, 1]), true) == 0


def view(boxes, posteriors):
    """A view of one position per box, with the same boxes for every class."""
    return ScaleView(np.array(posteriors, float).T, np.array([boxes], float))


def test_a_class_takes_the_boxes_of_the_scales_that_see_it():
    seen = view([[0, 0, 10, 10], [50, 50, 60, 60]], [[0.1, 0.9], [0.8, 0.2]])
    blind = view([[50, 50, 60, 60]], [[0.9, 0.1]])
    how = Merging(match=0.5, top_classes=1)
    assert merged_box([seen, blind], 1, how).tolist() == [0, 0, 10, 10]
    assert merged_box([seen, blind], 0, how).tolist() == [50, 50, 60, 60]
    # at no scale among the first: all scales
    assert merged_box([blind], 1, how).tolist() == [50, 50, 60, 60]
    # of two scales, the higher sum of scores wins
    both = Merging(match=0.5, top_classes=2)
    weak = view([[50, 50, 60, 60]], [[0.0, 0.95]])
    assert merged_box([seen, weak], 1, both).tolist() == [50, 50, 60, 60]


def test_of_very_many_boxes_those_of_the_highest_scores_are_merged():
    count = MOST_BOXES + 50
    boxes = np.tile([0.0, 0, 10, 10], (count, 1))
    boxes[:60] = [70, 70, 80, 80]
    scores = np.full(count, 0.5)
    scores[:60] = np.linspace(0, 0.1, 60)
    found = merged_box([ScaleView(scores[None], boxes[None])], 0, Merging(top_classes=1))
    assert found.tolist() == [0, 0, 10, 10]


def test_lists_of_boxes():
    lists = BoxLists.of([random_boxes(n, n) for n in (2, 0, 3)])
    assert len(lists) == 3 and lists.counts.tolist() == [2, 0, 3]
    np.testing.assert_array_equal(lists[2], random_boxes(3, 3))
    taken = lists.take(np.array([2, 0]))
    assert taken.counts.tolist() == [3, 2]
    np.testing.assert_array_equal(taken[1], random_boxes(2, 2))
    assert BoxLists.of([]).boxes.shape == (0, 4)
