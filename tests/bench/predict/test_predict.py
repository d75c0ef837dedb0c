"""vgg-predict as its users run it: files, folders, the web, standard input; every format."""

import json
import re
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.predict.cli import PROTOCOL_NAMES, RUNTIME_NAMES, main
from bench.predict.map_files import STEPS, VIRIDIS, overlay
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.web import served
from tests.support.written import written_onnx
from vgg_deploy.images.protocols import PROTOCOLS
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import PACKAGES


@pytest.fixture
def net(here):
    return save_net(thin_net("A"), here / "A.pt")


@pytest.fixture
def expected(net, photos):
    """What the Python interface says about the images of a folder, by path."""
    paths = sorted((photos / "val").glob("*/*"))
    return load(net, threads=1).predict(paths).to_frame()


@pytest.mark.slow
def test_a_folder_in_every_format(net, photos, expected, here):
    folder = photos / "val"
    run(main, net, folder, "--out", "p.csv", "--threads", "2")
    run(main, net, folder, "--out", "p.jsonl", "--threads", "1")
    run(main, net, folder, "--out", "p.parquet", "--threads", "1")
    for table in (pd.read_csv("p.csv"), pd.read_parquet("p.parquet")):
        assert list(table.columns) == ["image", "rank", "class", "name", "posterior"]
        assert table.drop(columns="posterior").equals(expected.drop(columns="posterior"))
        np.testing.assert_allclose(table.posterior, expected.posterior, atol=1e-6)
    lines = [json.loads(line) for line in (here / "p.jsonl").read_text().splitlines()]
    assert [one["image"] for one in lines] == list(dict.fromkeys(expected.image))
    ranked = [one for line in lines for one in line["best"]]
    assert [one["name"] for one in ranked] == expected.name.tolist()


def test_the_table_fits_80_columns(here, photos):
    names = ("a very long name of a class, Canis lupus familiaris", "b", "c", "小さな犬" * 9)
    net = save_net(thin_net("A", classes=("w", "x", "y", "z"), names=names), here / "A.pt")
    long = here / ("deep" * 20) / "photo.jpeg"
    long.parent.mkdir()
    long.write_bytes((photos / "val" / "disc" / "000.jpeg").read_bytes())
    result = CliRunner().invoke(main, [str(net), str(long), "--top", "4"])
    assert result.exit_code == 0, result.output
    from rich.cells import cell_len

    head, *lines = result.stdout.splitlines()
    assert re.fullmatch(r"image +class +posterior", head)
    assert len(lines) == 4 and all(cell_len(line) == 80 for line in (head, *lines))
    assert lines[0].startswith("…") and "photo.jpeg" in lines[0]
    assert all(re.search(r"\d+\.\d\d %$", line) for line in lines)
    assert any("b (x)" in line for line in lines)


def test_control_characters_in_names_do_not_reach_the_terminal(net, photos, here):
    bad = here / "a\x1b[2Jb\n.jpeg"
    bad.write_bytes((photos / "val" / "disc" / "000.jpeg").read_bytes())
    result = CliRunner().invoke(main, [str(net), str(bad), "--top", "1"])
    assert "\x1b" not in result.output and len(result.stdout.splitlines()) == 2


def test_standard_input_is_one_image(net, photos, here):
    content = (photos / "val" / "square" / "001.jpeg").read_bytes()
    result = CliRunner().invoke(main, [str(net), "-", "--format", "jsonl"], input=content)
    found = json.loads(result.stdout)
    assert found["image"] == "standard input"
    best = load(net, threads=1).predict(Image.open(BytesIO(content)))[0].best
    assert [one["name"] for one in found["best"]] == [one.name for one in best]
    assert "- is named twice" in run(main, net, "-", "-", code=2)


@pytest.fixture
def server(photos):
    """A loopback web server of the images."""
    with served(photos / "val") as address:
        yield address


def test_images_come_from_the_web(net, photos, server, here):
    here_too = photos / "val" / "disc" / "000.jpeg"
    run(main, net, f"{server}/disc/000.jpeg", here_too, "--out", "p.csv")
    table = pd.read_csv("p.csv")
    web, local = (part.drop(columns="image").reset_index(drop=True) for _, part in
                  table.groupby("image", sort=False))  # fmt: skip
    pd.testing.assert_frame_equal(web, local)
    output = run(main, net, f"{server}/none.jpeg", code=2)
    assert "/none.jpeg: cannot be downloaded (HTTP Error 404: " in output
    assert output.endswith("check the address or pass --on-error skip")
    output = run(main, net, f"{server}/none.jpeg", here_too, "--on-error", "skip")
    assert "Skipped 1 of 2 images, unreadable" in output
    output = run(main, net, "ftp://example.org/a.jpeg", code=2)
    assert "ftp://example.org/a.jpeg: is no http or https address" in output


@pytest.mark.slow
def test_an_unreadable_image_stops_or_is_skipped(net, photos_copy, here):
    folder = photos_copy / "val"
    (folder / "disc" / "003.jpeg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image by its name")
    (here / "p.csv").write_text("before")
    output = run(main, net, folder, "--out", "p.csv", code=2)
    assert "003.jpeg: is not an image of a known format" in output
    assert output.endswith("remove it or pass --on-error skip")
    assert (here / "p.csv").read_text() == "before"
    assert [path.name for path in here.glob(".*partial")] == []
    output = run(main, net, folder, "--out", "p.csv", "--on-error", "skip", "--maps", "maps")
    assert "Ignored 1 files in folders that are not images" in output
    assert "Skipped 1 of 24 images, unreadable" in output
    assert pd.read_csv("p.csv").image.nunique() == 23 == len(list((here / "maps").iterdir()))
    output = run(main, net, folder / "disc" / "003.jpeg", "--on-error", "skip", code=2)
    assert output.endswith("none of the 1 images can be read")


def test_every_file_and_protocol_is_predicted(net, photos, expected, here):
    onnx = written_onnx(here / "A.onnx", thin_net("A"))
    run(main, onnx, photos / "val", "--out", "p.csv", "--threads", "1")
    table = pd.read_csv("p.csv")
    assert table.name.equals(expected.name)
    np.testing.assert_allclose(table.posterior, expected.posterior, atol=1e-5)
    views = ["--protocol", "multicrop+dense", "--scales", "32,48", "--no-flips", "--top", "1"]
    run(main, net, photos / "val" / "disc", *views, "--out", "p.csv")
    found = pd.read_csv("p.csv")
    paths = sorted((photos / "val" / "disc").iterdir())
    model = load(net, threads=1)
    again = model.predict(paths, protocol="multicrop+dense", side=(32, 48), flips=False, top=1)
    np.testing.assert_allclose(found.posterior, again.to_frame().posterior, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["."], ".: no images there"),
        (["A.pt", "--format", "parquet"], "add --out predictions.parquet"),
        (["A.pt", "--scales", "16"], "Q 16 is below the crop 32"),
        (["A.pt", "--mean", "0.5,0.5,0.5"], "is of 0-1 pixels and needs a std"),
        (["A.pt", "--channel-order", "BGR"], "a checkpoint knows its own input"),
        (["A.pt", "--precision", "fp8"], "'fp8' is not one of"),
        ([], "Missing argument 'IMAGES...'"),
    ],
)
def test_wrong_input_is_one_sentence(options, message, net):
    assert message in run(main, net, *options, code=2)


def test_numbered_classes_are_reported(here, photos):
    net = save_net(thin_net("A", classes=("0", "1", "2", "3")), here / "A.pt")
    image = photos / "val" / "disc" / "000.jpeg"
    output = run(main, net, image, "--top", "1")
    assert "names no classes: they are numbered from 0" in output
    (here / "names.txt").write_text("gas pump\nchurch\nFrench horn\ntench\n")
    output = run(main, net, image, "--classes", "names.txt", "--top", "4")
    assert "numbered" not in output and "French horn" in output


def test_choices_are_those_of_the_core():
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS) and set(RUNTIME_NAMES) == set(PACKAGES)


def test_maps_show_the_best_class_over_the_image(net, photos, here):
    image = photos / "val" / "disc" / "000.jpeg"
    run(main, net, image, "--maps", "maps", "--scales", "64,96")
    (path,) = (here / "maps").iterdir()
    assert path.name == "000000-000.png"
    with Image.open(path) as page, Image.open(image) as original:
        ratio = max(original.size) / min(original.size)
        wide = original.width > original.height
        widths = [round(side * ratio) if wide else side for side in (64, 96)]
        assert abs(page.width - sum(widths)) <= 2


def test_a_map_lies_where_its_windows_have_their_centres():
    """Pixel by pixel: position (i, j) colours the 32 pixels around the centre of its window."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 100, 131), np.uint8)
    posterior_map = rng.random((2, 3))  # of a crop of 64
    found = overlay(pixels, posterior_map, 64)
    top = posterior_map.max()
    for y, x in [(16, 16), (47, 47), (48, 16), (79, 111), (30, 80)]:
        i, j = (y - 16) // 32, (x - 16) // 32
        colour = VIRIDIS[round(posterior_map[i, j] / top * (STEPS - 1))]
        expected = 0.45 * pixels[:, y, x] + 0.55 * colour
        np.testing.assert_allclose(found[y, x], expected, atol=0.51)
    outside = np.ones((100, 131), bool)
    outside[16:80, 16:112] = False
    np.testing.assert_array_equal(found[outside], pixels.transpose(1, 2, 0)[outside])
