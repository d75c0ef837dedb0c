"""Annotations of images: names, coordinates, classes, and every way to be wrong."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.data.annotation_names import image_name, match_names
from vgg_deploy.data.annotations import CONVENTIONS, open_annotations, with_boxes
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.box_outputs import BOX_COORDINATES

IMAGES = {"cat/a.jpg": (60, 40), "cat/b.png": (50, 50), "dog/c.jpg": (30, 80)}  # width, height


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for name, size in IMAGES.items():
        path = root / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    return root


def opened(root, **changes):
    return open_dataset(root, "val", **changes)


def xml(objects, size=None):
    text = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    )
    if size:
        text += f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation><filename>%s</filename>{text}</annotation>"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ROWS = "image,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def table(tmp_path):
    def make(rows, head=ROWS):
        return write(tmp_path, "boxes.csv", head + rows)

    return make


def read(root, path, convention="voc", on_error="stop"):
    return with_boxes(opened(root), open_annotations(path), convention, 2, on_error)


def test_a_folder_of_xml_files(data, tmp_path):
    folder = tmp_path / "Annotations"
    write(folder, "a.xml", xml([("cat", (1, 1, 60, 40)), ("dog", (3, 3, 5, 5))], (60, 40)))
    write(folder, "deep/c.xml", xml([("dog", (11, 21, 20, 30)), ("dog", (1, 1, 1, 1))]))
    write(folder, "b.xml", xml([("dog", (1, 1, 9, 9))]))
    write(folder, "elsewhere.xml", "not even read")
    write(folder, "notes.txt", "not looked at")
    found = read(data, folder)
    assert list(found.dataset.files) == ["val/cat/a.jpg", "val/dog/c.jpg"]
    assert found.left_out == ["val/cat/b.png"] and found.strangers == 1
    boxes = found.dataset.boxes
    # 1-based and inclusive: pixels 11 to 20 are the edges 10 and 20
    assert boxes[0].tolist() == [[0, 0, 60, 40]]
    assert boxes[1].tolist() == [[10, 20, 20, 30], [0, 0, 1, 1]]
    assert found.lines("validation") == [
        "Boxes: 3 objects of 2 validation images",
        "1 validation images have no box of their class and are left out (first: val/cat/b.png)",
        "1 annotations are of no validation image",
    ]
    taken = found.dataset.take(np.array([1]))
    assert taken.boxes[0].tolist() == boxes[1].tolist() and len(taken.boxes) == 1


def test_a_table(data, table):
    path = table(
        "val/cat/a.jpg,cat,1,1,60,40\n\n"
        'b,"cat",10,10,20.5,30\n'
        "dog\\c.jpg,dog,1,1,30,80\n"
        "./train/cat/z.jpg,cat,1,1,2,2\n"
        "dog/c.jpg,cat,1,1,9,9\n"
    )
    found = read(data, path)
    assert [boxes.tolist() for boxes in found.dataset.boxes.lists()] == [
        [[0, 0, 60, 40]],
        [[9, 9, 20.5, 30]],
        [[0, 0, 30, 80]],
    ]
    assert found.left_out == [] and found.strangers == 1


def test_columns_may_stand_in_any_order_and_have_company(data, table):
    path = table("7,40,60,1,1,cat,a.jpg\n", "\ufeffscore,YMAX,xmax, ymin,xmin,class,image\n")
    assert read(data, path).dataset.boxes[0].tolist() == [[0, 0, 60, 40]]


def test_coordinates_as_edges(data, table):
    path = table("a,cat,0,0,60,40\nb,cat,5,6,7.5,8\n")
    assert [boxes.tolist() for boxes in read(data, path, "edges").dataset.boxes.lists()] == [
        [[0, 0, 60, 40]],
        [[5, 6, 7.5, 8]],
    ]


def test_a_box_may_leave_its_image_by_one_pixel(data, table):
    """ILSVRC's files count from 0 in one corner and to the side in the other."""
    path = table("a,cat,0,0,61,41\n")
    assert read(data, path).dataset.boxes[0].tolist() == [[0, 0, 60, 40]]


def test_names_of_people_are_classes_too(data, table):
    (data / "class_index.json").write_text('{"0": ["cat", "tabby"], "1": ["dog", "beagle"]}')
    path = table("a,tabby,1,1,2,2\nc,dog,1,1,2,2\n")
    assert len(read(data, path).dataset) == 2


def test_exif_rotation_turns_the_image_that_boxes_are_of(data, table, tmp_path):
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(data / "val/cat/a.jpg", exif=exif)
    path = table("a,cat,1,1,60,40\n")
    assert read(data, path).dataset.boxes[0].tolist() == [[0, 0, 60, 40]]
    upright = replace(opened(data), upright=True)
    with pytest.raises(InputError, match=r"leaves the image of 40 x 60"):
        with_boxes(upright, open_annotations(path), "voc", 1, "stop")
    folder = tmp_path / "xml"
    write(folder, "a.xml", xml([("cat", (1, 1, 40, 60))], (40, 60)))
    found = with_boxes(upright, open_annotations(folder), "voc", 1, "stop")
    assert found.dataset.boxes[0].tolist() == [[0, 0, 40, 60]]
    with pytest.raises(InputError, match="is of an image of 40 x 60 .* is turned: .* EXIF"):
        read(data, folder)


OF_TABLES = {
    "outside": ("a,cat,1,1,600,40\n", "line 2 (cat): its box 1, 1, 600, 40 leaves the image of 60"),
    "negative": ("a,cat,-9,1,6,4\n", "leaves the image"),
    "empty": ("a,cat,6,1,5,4\n", "holds no pixel"),
    "beside": ("a,cat,61,1,61,4\n", "lies outside the image of 60 x 40"),
    "NaN": ("a,cat,nan,1,5,4\n", "line 2: its xmin is 'nan', expected a number"),
    "infinite": ("a,cat,1,1,inf,4\n", "its xmax is 'inf'"),
    "huge": ("a,cat,1,1,1e99,4\n", "leaves the image"),
    "class": ("a,catt,1,1,5,4\n", "the class 'catt' is none of the 2 of"),
    "near miss": ("a,catt,1,1,5,4\n", "did you mean cat?"),
    "short": ("a,cat,1,1,5\n", "line 2: has 5 values, fewer than columns"),
    "nameless": (",cat,1,1,5,4\n", "line 2: its image has 0 characters"),
    "classless": ("a,,1,1,5,4\n", "line 2: its class has 0 characters"),
    "none": ("", "has no row below its head"),
    "strangers": ("x,cat,1,1,5,4\n", "none of its 1 annotations gives a box of the class"),
    "quotes": ('a,"cat,1,1,5,4\n', "is no CSV"),
    "twice": ("x/a,cat,1,1,5,4\ny/a,cat,1,1,5,4\n", "x/a and y/a both may be the annotation of"),
}


@pytest.mark.parametrize("case", OF_TABLES)
def test_a_table_that_cannot_be_used_gets_one_sentence(case, data, table):
    rows, expected = OF_TABLES[case]
    with pytest.raises(InputError) as refused:
        read(data, table(rows))
    message = refused.value.message
    assert expected in message and message.count("boxes.csv") == 1 and "\n" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"image,class\n", "does not name the column xmin once"),
        (b"image,image,class,xmin,ymin,xmax,ymax\n", "does not name the column image once"),
        (b"", "does not name the column image once"),
        (b"\xff\xfe\x00", "cannot be read as a table in UTF-8"),
        (b"image,class,xmin,ymin,xmax,ymax\n" + b'"' + b"a" * 200_000 + b'"', "is no CSV"),
    ],
)
def test_a_file_that_is_no_table_gets_one_sentence(content, expected, data, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        open_annotations(path)


def test_what_are_no_annotations_gets_one_sentence(data, tmp_path):
    for path, expected in [
        (tmp_path / "missing", "is neither a folder of XML files nor a table"),
        (tmp_path / "missing.csv", "cannot be read as a table in UTF-8 .No such file"),
        (tmp_path / "a\0b", "is neither"),
        (data, "has no XML files"),
    ]:
        with pytest.raises(InputError, match=expected):
            open_annotations(path)


def test_xml_of_another_image_is_refused(data, tmp_path):
    folder = tmp_path / "xml"
    write(folder, "a.xml", xml([("cat", (1, 1, 9, 9))], (61, 40)))
    with pytest.raises(InputError, match=r"a\.xml: is of an image of 61 x 40 .* has 60 x 40; take"):
        read(data, folder)
    write(folder, "a.xml", xml([("cat", (1, 1, 9, 9)), ("cat", (9, 9, 1, 1))]))
    with pytest.raises(InputError, match=r"a\.xml, object 2 \(cat\): its box 9, 9, 1, 1 .* holds"):
        read(data, folder)


def test_an_unreadable_image_is_named(data, table):
    (data / "val/cat/a.jpg").write_bytes(b"no image")
    path = table("a,cat,1,1,5,4\nb,cat,1,1,5,4\n")
    with pytest.raises(InputError, match=r"val/cat/a\.jpg: "):
        read(data, path)
    found = read(data, path, on_error="skip")
    assert found.left_out == ["val/dog/c.jpg"] and list(found.dataset.files) == ["val/cat/b.png"]
    assert "1 validation images cannot be read" in found.lines("validation")[2]


def test_the_longest_common_path_decides():
    files = ["train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.JPEG", "train/dog/x.tar.gz"]
    assert image_name(files[3]) == files[3]
    assert match_names(files, ["dog/1", "2"], "x").tolist() == [-1, 0, 1, -1]
    assert match_names(files, ["dog/1", "cat/1"], "x").tolist() == [1, 0, -1, -1]
    # cat/1 has no annotation, and those of others are not its own
    assert match_names(files, ["dog/1", "emu/1"], "x").tolist() == [1, 0, -1, -1]
    others = ["train/dog/1", "train/dog/2", "train/emu/1"]
    assert match_names([*files, "train/emu/1.jpg"], others, "x").tolist() == [-1, 0, 1, -1, 2]
    assert match_names(files[::-1], ["dog/1", "cat/1"], "x").tolist() == [-1, -1, 0, 1]
    with pytest.raises(InputError, match=r"1 may be the annotation of train/cat/1\.jpg and of"):
        match_names(files, ["1"], "x")


def test_every_convention_has_its_name():
    assert tuple(CONVENTIONS) == BOX_COORDINATES
