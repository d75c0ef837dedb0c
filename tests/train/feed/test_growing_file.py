"""Features of a frozen trunk that were stopped: work is kept, the result is the same."""

import json
import re
import signal

import numpy as np
import pandas as pd
import pytest

from tests.support.nets import save_net, thin_net
from tests.support.options import options
from tests.support.warm import until
from train.feed.feature_announcement import Announcement
from train.feed.frozen_features import Extraction, pool5_features
from train.feed.growing_file import GrowingFile, only_writer
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError

RUN = options(
    "--arch A --freeze-features --width 0.0625 --crop 64 --side 64 --batch 16 --epochs 1 "
    "--lr 0.001 --workers 0 --threads 1"
)
TIMES = ["images_per_s", "elapsed_s"]


class Place:
    """Starts trainings of a head, each with a cache of its own or a given one."""

    def __init__(self, warm, photos, here):
        self.warm, self.photos, self.here = warm, photos, here
        self.weights = save_net(thin_net("A", crop=64), here / "A.pt")

    def train(self, name, *words, **how):
        """Train into the folder of this name; its cache has the same name."""
        cache = {"VGG_DEPLOY_CACHE": str(self.here / f"cache-{name}")}
        given = ["--data", self.photos, "--weights", self.weights, "--out", self.here / name]
        return self.warm.train(self.here, *(words or (*RUN, *given)), **cache, **how)

    def resume(self, name, **how):
        return self.train(
            name, *options(f"--resume {self.here / name} --threads 1 --workers 0"), **how
        )

    def features(self, name, which="*"):
        return sorted((self.here / f"cache-{name}" / "features").glob(which))


@pytest.fixture(scope="module")
def undisturbed(warm, photos, tmp_path_factory):
    place = Place(warm, photos, tmp_path_factory.mktemp("undisturbed"))
    training = place.train("run")
    assert training.wait() == 0, training.output()
    return place, training.output()


def assert_same(place, name, undisturbed):
    """Oracle: the run that nobody stopped."""
    files, expected = place.features(name, "A-*"), undisturbed[0].features("run", "A-*")
    assert [path.name for path in files] == [path.name for path in expected] and len(files) == 5
    for one, two in zip(files, expected, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert not [path for path in place.features(name, ".*") if path.suffix != ".lock"]
    rows = [
        pd.read_csv(folder / "metrics.csv").drop(columns=TIMES)
        for folder in (place.here / name, undisturbed[0].here / "run")
    ]
    pd.testing.assert_frame_equal(*rows, check_exact=True)


@pytest.mark.slow
def test_size_and_time_are_announced_before_they_begin(photos, own_cache):
    """Oracle: the length of the file."""
    lines: list[str] = []
    dataset = open_dataset(photos, "train")
    how = Extraction(thin_net("A", crop=224), 224, "cpu", 1, "stop", lines.append)
    before = set((own_cache / "features").glob("A-train-*.npy"))  # of other tests
    pool5_features(dataset, how)
    (path,) = set((own_cache / "features").glob("A-train-*.npy")) - before
    (line,) = lines
    size, seconds = re.search(r"about ([\d.]+) MB in .*; about (\d+:\d\d) to go", line).groups()
    assert size == f"{path.stat().st_size / 1e6:,.1f}" == "0.3" and seconds < "1:00"
    announced = Announcement("training", 1_281_167, 81_167, 64_283_880_576, path, 4000)
    with pytest.raises(InputError, match="MB are needed for features and 1.0 MB are free"):
        announced.print(lines.append, 10**6)
    assert (
        "64,283.9 MB" in lines[1] and "81167 of them by an earlier run; about 1:06:40" in lines[1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_work_is_kept(warm, photos, here, undisturbed, signum):
    place = Place(warm, photos, here)
    training = place.train("run")
    until(lambda: place.features("run", ".A-train-*.unfinished.json"))
    training.send(signum)
    code = training.wait()
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum), training.output()
    assert not place.features("run", "A-train-*.npy")
    (record,) = place.features("run", ".A-train-*.unfinished.json")
    assert json.loads(record.read_text())["steps"] == 64
    if code > 0:
        way = f"features that were finished are kept; resume with: python -m train --resume {here}"
        assert way in training.output() and "Traceback" not in training.output()
    training = place.resume("run")
    assert training.wait() == 0, training.output()
    assert "64 of them by an earlier run" in training.output()
    assert_same(place, "run", undisturbed)


@pytest.mark.slow
def test_a_full_disk_and_damage(warm, photos, here, undisturbed):
    """A limit on the length of files stands for the disk; then a bit flips in what was kept."""
    place = Place(warm, photos, here)
    (whole,) = undisturbed[0].features("run", "A-train-*.npy")
    training = place.train("run", file_bytes=whole.stat().st_size - 1)
    assert training.wait() == 2, training.output()
    output = training.output()
    assert output.count("Error: ") == 1 and "writing failed (File too large)" in output
    assert "what was finished is kept; make space, or set VGG_DEPLOY_CACHE" in output
    (path,) = place.features("run", ".A-train-*.unfinished")
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    training = place.resume("run")
    assert training.wait() == 0, training.output()
    assert "the cached features are damaged" in training.output()
    assert_same(place, "run", undisturbed)


@pytest.mark.slow
def test_two_trainings_compute_the_features_once(warm, photos, here):
    place = Place(warm, photos, here)
    one = place.train("run")
    until(lambda: place.features("run", ".A-val-*.unfinished.json"))
    one.send(signal.SIGSTOP)
    other = here / "other"
    words = ["--data", photos, "--weights", place.weights, "--out", other]
    two = place.train("run", *RUN, *words)
    until(lambda: "another process writes it; waiting for its end" in two.output())
    one.send(signal.SIGCONT)
    assert one.wait() == 0 and two.wait() == 0, two.output()
    assert two.output().count("computed once") == 0


def test_parts(tmp_path):
    """Oracle: the bytes that were written before `finish_part`."""
    final = tmp_path / "file"
    for _ in range(2):
        file = GrowingFile(final, "make space")
        file.write(b"never finished")
        file.close()
        assert not list(tmp_path.iterdir())
    data = np.random.default_rng(0).bytes(300)
    for part in range(3):
        file = GrowingFile(final, "make space")
        assert not file.damaged
        assert (file.size, file.steps, file.notes) == (100 * part, part, list(range(part)))
        file.write(data[100 * part : 100 * part + 100])
        file.finish_part(1, [part])
        file.write(b"cut off")
        file.close()
    file = GrowingFile(final, "make space")
    file.finish()
    file.close()
    assert final.read_bytes() == data and [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "record",
    ["[]", "{}", '{"bytes": 9, "steps": 1, "crc32": 0, "notes": []}', "\0", '{"bytes": -1}'],
)
def test_a_damaged_record(tmp_path, record):
    (tmp_path / ".file.unfinished").write_bytes(b"12345678")
    (tmp_path / ".file.unfinished.json").write_text(record)
    file = GrowingFile(tmp_path / "file", "make space")
    assert file.damaged and (file.size, file.steps, file.notes) == (0, 0, [])
    file.close()
    assert not list(tmp_path.iterdir())


def test_what_is_no_file(tmp_path):
    (tmp_path / ".file.unfinished").mkdir()
    with pytest.raises(InputError, match="is not a regular file; remove it"):
        GrowingFile(tmp_path / "file", "make space")
    with only_writer(tmp_path / "file", print) as waited:
        assert not waited
