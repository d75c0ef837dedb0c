"""The boxes of built-in images, against the pixels that an object changes."""

import numpy as np
import pytest

from vgg_deploy.data import built_in
from vgg_deploy.data.built_in import CLASSES, OBJECTS, render, render_scene
from vgg_deploy.data.built_in_boxes import built_in_with_boxes, object_boxes


@pytest.mark.parametrize("index", range(0, 40, 3))
def test_a_box_holds_the_pixels_of_its_object_and_no_more(index, monkeypatch):
    """Oracle: the image before and after the object is drawn, pixel by pixel."""
    changed = []
    draw = built_in._draw_object

    def watched(image, *rest):
        before = np.asarray(image).copy()
        box = draw(image, *rest)
        changed.append((before != np.asarray(image)).any(axis=2))
        return box

    monkeypatch.setattr(built_in, "_draw_object", watched)
    scene = render_scene("val", index)
    assert len(scene.boxes) == len(changed) <= OBJECTS[1]
    for box, pixels in zip(scene.boxes, changed, strict=True):
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_the_image_is_the_same_with_and_without_boxes():
    assert render("train", 5).tobytes() == render_scene("train", 5).image.tobytes()


def test_boxes_go_with_the_files(own_cache):
    dataset = built_in_with_boxes("val", 23)
    assert len(dataset) == len(dataset.boxes) == 23
    for position in (0, 9, 22):
        number = int(dataset.files[position].split("/")[1].removesuffix(".jpeg"))
        assert dataset.labels[position] == number % len(CLASSES)
        expected = render_scene("val", number).boxes
        np.testing.assert_array_equal(dataset.boxes[position], expected)


def test_boxes_are_kept_and_a_damaged_file_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path))
    first = object_boxes("val", 12)
    (path,) = tmp_path.glob("**/boxes-12.npz")
    time = path.stat().st_mtime_ns
    fewer = object_boxes("val", 7)
    assert path.stat().st_mtime_ns == time
    np.testing.assert_array_equal(fewer.boxes, first.boxes[: len(fewer.boxes)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = object_boxes("val", 12)
    np.testing.assert_array_equal(again.boxes, first.boxes)
    np.savez(path, boxes=first.boxes - 9999, ends=first.ends)
    np.testing.assert_array_equal(object_boxes("val", 12).boxes, first.boxes)
