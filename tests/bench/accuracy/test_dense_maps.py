"""Score maps that are kept with a cell: the net's own, and never another cell's."""

import numpy as np
import pytest

from bench.accuracy import dense_maps
from bench.accuracy.dense_maps import CellMaps, DensePass
from tests.support.cells import IDENTITY, measure
from vgg_deploy.images.decode import read_image
from vgg_deploy.images.encoded import resized
from vgg_deploy.runtimes import open_runtime

RNG = np.random.default_rng(0)
PASSES = {
    i: DensePass(
        RNG.random(4).astype(np.float32), RNG.normal(size=(4, 2, 3 + i)).astype(np.float32)
    )
    for i in range(3)
}


def same(one, other) -> bool:
    return list(one) == list(other) and all(
        np.array_equal(a, b) for i in one for a, b in zip(one[i], other[i], strict=True)
    )


@pytest.fixture
def maps(tmp_path):
    def of(**changed):
        return CellMaps(tmp_path / "cell.npy", {**IDENTITY, **changed}, 4)

    return of


def test_scoring_keeps_what_the_net_gives_for_an_image(net, photos, tmp_path):
    """Oracle: each image alone through the net."""
    accuracy = measure([net], photos, tmp_path / "cells")
    (cell,) = accuracy.measured.cells.values()
    found, runtime = cell.maps.known(range(24)), open_runtime(net)
    assert list(found) == list(range(24))
    for index, one in found.items():
        pixels = np.asarray(resized(read_image(photos / accuracy.files[index]), 48))
        alone = runtime(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        np.testing.assert_allclose(one.score_map, alone.score_map[0], atol=1e-5)
        np.testing.assert_allclose(one.posterior, alone.posterior[0], atol=1e-6)


def test_stored_ones_come_back_and_replace_others(maps):
    assert maps().known([0]) == {}
    maps().store(PASSES)
    assert same(maps().known([0, 1, 2, 7]), PASSES)
    maps().store({2: PASSES[2]})
    assert same(maps().known([0, 1, 2]), {2: PASSES[2]})


def test_other_cells_and_damaged_files_are_set_aside(maps, capsys):
    maps().store(PASSES)
    assert maps(side=64).known([0]) == {} and not maps().path.exists()
    for damage in (lambda data: b"", lambda data: data[:-60], lambda data: data[::-1]):
        maps().store(PASSES)
        maps().path.write_bytes(damage(maps().path.read_bytes()))
        assert maps().known([0]) == {} and not maps().path.exists()
    assert capsys.readouterr().err.count("renamed to cell.maps.npz.damaged") == 4
    maps().store({0: DensePass(PASSES[0].posterior[:3], PASSES[0].score_map)})
    assert maps().known([0]) == {}


def test_a_flipped_bit_is_noticed(maps, capsys):
    """Wherever it is, the maps are right or none."""
    maps().store(PASSES)
    content = maps().path.read_bytes()
    for at in range(40, len(content), 97):
        maps().path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        found = maps().known([0, 1, 2])
        assert found == {} or same(found, PASSES), at
    capsys.readouterr()


def test_too_many_are_not_kept(maps, monkeypatch):
    monkeypatch.setattr(dense_maps, "MOST_BYTES", 2 * PASSES[0].bytes)
    cell = maps()
    for _ in range(3):
        cell.keep(np.array([0]), PASSES[0].posterior[None], PASSES[0].score_map[None])
    assert cell.known([0]) == {}
    cell.store(PASSES)
    assert not cell.path.exists()
