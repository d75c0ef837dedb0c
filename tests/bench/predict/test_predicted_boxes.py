"""vgg-predict draws boxes. Oracle: localisers that state one box for every window."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.predict.cli import main
from bench.report.schema import OF_BOXES
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.palette import COLOURS


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A classifier, and a localiser that sees a box of half the window's sides in its middle."""
    monkeypatch.chdir(tmp_path)
    localiser = thin_net("A", boxes="shared")
    with torch.no_grad():
        localiser.convolution("fc8").weight.zero_()
        localiser.convolution("fc8").bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.5]))
    save_net(thin_net("A"), tmp_path / "A.pt")
    save_net(localiser, tmp_path / "boxes.pt")
    rng = np.random.default_rng(0)
    grey = rng.integers(60, 200, (64, 64, 3), np.uint8)
    Image.fromarray(grey).save(tmp_path / "square.png")
    return tmp_path


def test_the_box_of_a_single_window_is_the_middle_of_the_image(nets):
    """At Q = crop the only window is the whole image: 64 pixels, so 16 to 48."""
    run(
        main, "A.pt", "square.png", "--scales", 32, "--boxes-by", "boxes.pt", "--boxes", "drawn",
        "--top", 2,
    )  # fmt: skip
    table = pd.read_csv("drawn/boxes.csv")
    assert list(table.columns) == OF_BOXES[0].names
    assert list(table["rank"]) == [1, 2] and list(table.image) == ["square.png"] * 2
    edges = table[["left_px", "top_px", "right_px", "bottom_px"]].to_numpy()
    np.testing.assert_allclose(edges, [[16, 16, 48, 48]] * 2, atol=0.01)
    picture = np.asarray(Image.open("drawn/000000-square.png").convert("RGB"))
    ink = np.array([int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])
    image = picture[-32:]  # at Q 32 the box goes from 8 to 24
    drawn = (image == ink).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 8, 23)
    assert not drawn[12:20, 12:20].any()


def test_boxes_need_a_localiser_of_the_same_classes(nets):
    both = ("--boxes", "drawn", "--boxes-by")
    assert "is a classifier" in run(main, "A.pt", "square.png", *both, "A.pt", code=2)
    save_net(thin_net("A", boxes="shared", classes=("a", "b", "c", "d")), nets / "other.pt")
    said = run(main, "A.pt", "square.png", *both, "other.pt", code=2)
    assert "states boxes of other classes than A.pt scores" in said
    assert "give both" in run(main, "A.pt", "square.png", "--boxes", "drawn", code=2)
    assert not (nets / "drawn" / "boxes.csv").exists()
