"""Tar shards: packed, read at random and in a stream, and never trusted.

The stream is the same for any number of readers.
"""

import io
import json
import shutil
import signal
import tarfile
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from bench.cli import main as vgg_bench
from export.quantize.calibration_images import open_calibration_images
from tests.fuzz.reader import seal_index
from tests.support.commands import THIN
from tests.support.nets import CLASSES, thin_net, thin_spec
from tests.support.run import run
from train.__main__ import main as train
from train.feed.colour_statistics import measure_colours
from train.feed.loader import train_batches
from train.feed.shard_order import Lane, ShardOrder
from train.feed.streamed_views import check_streams
from train.feed.views import Views
from train.pack import main as pack
from train.recipe.config import TrainConfig
from train.step.update import Updater
from vgg_deploy.data import tar_reader as tars
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.index_file import Index, read_index, write_index
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.packed import Packed
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.sealed_json import sealed

SMALL = TrainConfig(
    arch="A", crop=32, side=(32, 64), batch=16, epochs=2, streams=8, shuffle_buffer=40
)


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    """The photos as ten training shards and three for validation."""
    folder = tmp_path_factory.mktemp("shards")
    said = run(pack, photos, folder, "--images-per-shard", "10")
    assert "train: 96 images in 10 shards, each of" in said and "val: 24 images in 3 shards" in said
    return folder


@pytest.fixture
def packed_copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "packed")


@pytest.fixture
def in_memory(packed):
    """The shards behind a URL."""
    files = fsspec.filesystem("memory")
    for path in packed.iterdir():
        files.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def views_of(data, config: TrainConfig = SMALL) -> Views:
    return Views(open_dataset(data, "train"), config, thin_spec().preprocessing, np.eye(3) * 20)


def assert_same(some, others) -> None:
    for a, b in zip(some, others, strict=True):
        for column in ("crops", "shifts", "labels", "rows"):
            assert torch.equal(getattr(a, column), getattr(b, column))
        assert a.unreadable == b.unreadable


# --- Packing ---


def test_shards_hold_every_image_as_it_is_beside_its_class(photos, packed):
    """Oracle: the standard library's tarfile."""
    for split in ("train", "val"):
        found = []
        for path in sorted(packed.glob(f"{split}-*.tar")):
            with tarfile.open(path) as tar:
                files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
            keys = list(dict.fromkeys(name.split(".")[0] for name in files))
            assert len(files) == 2 * len(keys) <= 20
            found += [(CLASSES[int(files[f"{key}.cls"])], files[f"{key}.jpeg"]) for key in keys]
        expected = [
            (path.parent.name, path.read_bytes()) for path in sorted((photos / split).glob("*/*"))
        ]
        assert sorted(found) == sorted(expected) and (found == expected) == (split == "val")
        dataset = open_dataset(packed, split)
        assert dataset.classes == CLASSES
        assert [
            (CLASSES[label], dataset.read(i)) for i, label in enumerate(dataset.labels)
        ] == found


def test_the_order_of_training_images_is_random_and_stated_by_the_seed(photos, packed, tmp_path):
    labels = open_dataset(packed, "train").labels
    assert all(len(set(labels[i : i + 10].tolist())) > 1 for i in range(0, 90, 10))
    run(pack, photos, tmp_path / "again", "--images-per-shard", "10")
    run(pack, photos, tmp_path / "other", "--images-per-shard", "10", "--seed", "1")
    for path in packed.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert open_dataset(tmp_path / "other", "train").labels.tolist() != labels.tolist()
    assert open_dataset(tmp_path / "other", "val").files == open_dataset(packed, "val").files


def test_packing_refuses_what_it_cannot_do(photos, photos_copy, packed, tmp_path):
    assert "already contains shards.json; remove" in run(pack, photos, packed, code=2)
    (tmp_path / "partial").mkdir()
    shutil.copy(packed / "train-000003.tar", tmp_path / "partial")
    assert "already contains train-000003.tar; remove" in run(
        pack, photos, tmp_path / "partial", code=2
    )
    assert "nowhere" in run(pack, tmp_path / "nowhere", tmp_path / "a", code=2)
    assert "name SOURCE and TARGET" in run(pack, photos, code=2)
    assert "name SOURCE and TARGET" in run(pack, code=2)
    assert "--classes belongs to --index" in run(
        pack, photos, tmp_path / "a", "--classes", "x", code=2
    )
    (photos_copy / "train/disc/notes.txt").write_text("x")
    assert "notes.txt: is not an image" in run(pack, photos_copy, tmp_path / "a", code=2)
    assert not (tmp_path / "a").exists()
    assert "train: 96 images" in run(pack, photos_copy, tmp_path / "a", "--on-error", "skip")


# --- Random access ---


def test_shards_give_what_the_folder_gives(photos, packed):
    folder, shards = (open_dataset(root, "val") for root in (photos, packed))
    assert shards.content_sha256(2) == folder.content_sha256(2) and len(shards) == len(folder) == 24
    assert shards.labels.tolist() == folder.labels.tolist() and shards.names == folder.names
    wanted = {Scale(48, "bilinear"): np.ones(24, bool)}
    for a, b in zip(
        size_batches(folder, wanted, 4, 2), size_batches(shards, wanted, 4, 2), strict=True
    ):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.indices, b.indices)
    assert [shards.size(i) for i in range(24)] == [folder.size(i) for i in range(24)]
    some, others = shards.subset(5), folder.subset(5)
    assert all(torch.equal(some.decode(i), others.decode(i)) for i in range(5))
    assert some.labels.tolist() == others.labels.tolist()
    colours = [measure_colours(open_dataset(root, "train"), 2) for root in (photos, packed)]
    np.testing.assert_allclose(colours[0].mean, colours[1].mean, rtol=1e-9)


def test_a_url_gives_what_the_folder_gives(packed, in_memory):
    for url in (in_memory, f"{in_memory}/", packed.as_uri()):
        for split in ("train", "val"):
            here, there = open_dataset(packed, split), open_dataset(url, split)
            assert there.files == here.files and there.labels.tolist() == here.labels.tolist()
            assert there.fingerprint() == here.fingerprint()
            assert there.content_sha256(2) == here.content_sha256(2)


def test_the_fingerprint_of_shards_is_of_their_images(photos, photos_copy, packed, tmp_path):
    first = open_dataset(packed, "val").fingerprint()
    run(pack, photos_copy, tmp_path / "same", "--images-per-shard", "10")
    # times of files do not count
    assert open_dataset(tmp_path / "same", "val").fingerprint() == first
    assert open_dataset(packed, "val").subset(23).fingerprint() != first
    with Image.open(photos_copy / "val/disc/000.jpeg") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos_copy / "val/disc/000.jpeg")
    run(pack, photos_copy, tmp_path / "other", "--images-per-shard", "10")
    assert open_dataset(tmp_path / "other", "val").fingerprint() != first


def test_calibration_takes_the_training_half_of_shards(packed):
    images = open_calibration_images(packed, 12, thin_net("A"))
    assert len(images) == 12 and all(file.startswith("train-") for file in images.files)
    assert images.decode(3).shape[0] == 3


# --- The stream ---


def tiny(images: int = 2000, per_shard: int = 70, name: str = "tiny") -> Packed:
    """Images of eight bytes that give their index, behind a URL, 512 bytes apart as in a tar."""
    files = fsspec.filesystem("memory")
    parts = [range(i, min(i + per_shard, images)) for i in range(0, images, per_shard)]
    for number, part in enumerate(parts):
        files.pipe_file(f"/{name}/{number}", b"".join(bytes(504) + b"%08d" % i for i in part))
    shards = tuple(f"memory://{name}/{number}" for number in range(len(parts)))
    index = np.arange(images)
    begin = index % per_shard * 512 + 504
    crc = np.array([zlib.crc32(b"%08d" % i) for i in index])
    return Packed(shards, index // per_shard, begin, np.full(images, 8), crc)


def drawn(lanes: ShardOrder, epoch: int, begin: int = 0, end: int | None = None) -> list[list[int]]:
    """The numbers that each lane gives out."""
    end = lanes.length if end is None else end
    found = []
    for number in range(lanes.streams):
        lane = Lane(lanes, number, epoch, begin, end, str)
        taken = [next(lane) for _ in range(begin, end)]
        assert all(data == lanes.packed.read(index, "it") for index, data in taken)
        found.append([index for index, _ in taken])
    return found


def test_an_epoch_gives_every_image_once_in_a_new_order():
    lanes = ShardOrder(tiny(2000), 16, 640, seed=3)
    first, second = ([i for lane in drawn(lanes, epoch) for i in lane] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(2000)) and first != second
    assert drawn(lanes, 0) == drawn(lanes, 0) != drawn(ShardOrder(lanes.packed, 16, 640, seed=4), 0)
    seven = ShardOrder(lanes.packed, 7, 640, seed=3)
    left = [
        set(range(2000)) - {i for lane in drawn(seven, epoch) for i in lane} for epoch in range(4)
    ]
    assert all(len(indices) == 2000 % 7 for indices in left)
    assert len(set.union(*left)) > 2000 % 7  # others each epoch


def test_images_move_by_less_than_the_buffer_and_no_more_are_held():
    """Oracle: the position of each image among the shuffled shards, found by sorting."""
    for buffer in (0, 160, 1600):
        lanes, spread = ShardOrder(tiny(2000), 16, buffer, seed=1), buffer / 16
        for number in (0, 5, 15):
            lane = Lane(lanes, number, 0, 0, lanes.length, str)
            reading = lanes.reading(number, 0).tolist()
            moved, held = [], []
            for position in range(lanes.length):
                moved.append(abs(reading.index(next(lane)[0]) - position))
                held.append(len(lane.waiting))
            assert max(moved) < max(spread, 1) and max(held) < max(spread, 1)
            if buffer:  # it does shuffle
                assert np.mean(moved) > spread / 8 and max(held) > spread / 4


def test_the_shards_come_in_a_new_order_each_epoch_and_are_read_whole():
    lanes = ShardOrder(tiny(2100, 70), 1, 0, seed=1)
    orders = []
    for epoch in range(3):
        reading = lanes.reading(0, epoch).reshape(30, 70)
        assert (np.diff(reading) == 1).all() and (reading[:, 0] % 70 == 0).all()
        orders.append(reading[:, 0].tolist())
        assert sorted(orders[-1]) == list(range(0, 2100, 70))
    assert orders[0] != orders[1] != orders[2]


class Forward(io.RawIOBase):
    """A stream that can only be read forward, as of a server without ranges; counts itself."""

    opened, open, most = [], 0, 0

    def __init__(self, data: bytes, path: str):
        self.data = io.BytesIO(data)
        Forward.opened.append(path)
        Forward.open += 1
        Forward.most = max(Forward.most, Forward.open)

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 100))  # and gives less than asked

    def close(self) -> None:
        if not self.closed:
            Forward.open -= 1
        super().close()


def test_lanes_may_read_the_same_shard_at_the_same_time():
    """In turn, from a store that gives both the same open file."""
    lanes = ShardOrder(tiny(2000, 1000, name="shared"), 16, 100, seed=0)
    running = [Lane(lanes, lane, 0, 0, lanes.length, str) for lane in range(16)]
    found = [next(lane) for _ in range(lanes.length) for lane in running]
    assert all(int(data) == index for index, data in found)
    assert len({index for index, _ in found}) == 2000


def test_a_shard_is_opened_once_a_lane_and_read_forward_only(monkeypatch):
    packed = tiny(2000, 1000, name="forward")
    wanted = drawn(ShardOrder(packed, 4, 100, seed=0), 0)
    opened = MemoryFileSystem._open
    monkeypatch.setattr(
        MemoryFileSystem,
        "_open",
        lambda self, path, *args, **more: Forward(opened(self, path).read(), path),
    )
    Forward.opened, Forward.open, Forward.most = [], 0, 0
    lanes = [Lane(ShardOrder(packed, 4, 100, seed=0), lane, 0, 0, 500, str) for lane in range(4)]
    assert [list(map(lambda _, lane=lane: next(lane)[0], range(500))) for lane in lanes] == wanted
    assert len(Forward.opened) == 4 and Forward.most <= 4
    del lanes
    # more than 200 kB into its shard
    resumed = Lane(ShardOrder(packed, 4, 100, seed=0), 3, 0, 450, 500, str)
    assert [next(resumed)[0] for _ in range(50)] == wanted[3][450:]


def test_a_lane_resumes_at_any_step_and_reads_no_more_than_it_needs():
    lanes = ShardOrder(tiny(2000, 20, name="resumed"), 8, 320, seed=2)
    whole, files = drawn(lanes, 1, end=240), fsspec.filesystem("memory")
    for begin in (1, 100, 239):
        assert drawn(lanes, 1, begin, 240) == [lane[begin:] for lane in whole]
    needed = {lanes.packed.shard[i] for lane in whole for i in lane[200:]}
    for shard in set(range(100)) - needed:
        files.rm_file(f"/resumed/{shard}")
    assert len(needed) < 60 and drawn(lanes, 1, 200, 240) == [lane[200:] for lane in whole]


@pytest.mark.slow
def test_batches_do_not_depend_on_workers_processes_or_where_they_start(packed, in_memory):
    views = views_of(packed)
    whole = list(train_batches(views, 0, 0, pin=False))
    assert len(whole) == 12 and all(len(batch.labels) == 16 for batch in whole)
    assert_same(whole, list(train_batches(views, 0, 2, pin=False)))
    assert_same(whole, list(train_batches(views_of(in_memory), 0, 1, pin=False)))
    for begin in (1, 6, 9):
        assert_same(
            whole[begin:], list(train_batches(views, begin, 2 if begin == 9 else 0, pin=False))
        )
    for world in (2, 4):
        parts = [train_batches(views, 0, 0, False, rank, world) for rank in range(world)]
        joined = [
            type(whole[0])(*map(torch.cat, list(zip(*shares, strict=True))[:4]), [])
            for shares in zip(*parts, strict=True)
        ]
        assert all(batch.rows.tolist() == [*range(16 // world)] * world for batch in joined)
        assert_same(whole, [batch._replace(rows=torch.arange(16)) for batch in joined])


def test_a_batch_takes_the_same_from_every_lane_and_views_are_those_of_the_image(packed):
    """Oracle: views drawn at random access, by epoch and image."""
    views = views_of(packed)
    lanes = ShardOrder(views.dataset.packed, 8, 40, seed=0)
    for epoch in (0, 1):
        numbers = drawn(lanes, epoch)
        for step, batch in enumerate(
            list(train_batches(views, 0, 0, pin=False))[6 * epoch : 6 * epoch + 6]
        ):
            wanted = [views[epoch, i] for lane in numbers for i in lane[2 * step : 2 * step + 2]]
            assert torch.equal(batch.crops, torch.stack([view.crop for view, _ in wanted]))
            assert batch.labels.tolist() == [label for _, label in wanted]


def test_some_of_the_images_can_be_streamed(packed):
    views = views_of(packed)
    some = Views(views.dataset.subset(50), SMALL, thin_spec().preprocessing, np.eye(3))
    numbers = [i for lane in drawn(ShardOrder(some.dataset.packed, 8, 40, seed=0), 0) for i in lane]
    assert len(set(numbers)) == 48 and set(numbers) < set(range(50))
    assert len(list(train_batches(some, 0, 0, pin=False))) == 2 * 3


def test_a_batch_must_fit_the_streams_and_they_the_processes(packed, here):
    args = ["--arch", "A", "--data", packed, *THIN, "--epochs", "1", "--out"]
    assert "--batch 24 cannot take the same from each of 16 streams" in run(
        train, *args, here / "a", "--batch", "24", code=2
    )
    said = run(train, *args, here / "b", "--streams", "0", code=2)
    assert "0 is too small, expected a whole number from 1 to 65536" in said
    with pytest.raises(InputError, match="--streams 8 cannot be shared evenly by 3 processes"):
        check_streams(SMALL, 3)
    check_streams(SMALL, 4)


# --- The commands ---


@pytest.mark.slow
def test_train_and_bench_from_a_url(here, in_memory, monkeypatch):
    args = ["--arch", "A", "--data", in_memory, *THIN, "--threads", "1", "--epochs", "1"]
    args += ["--lr", "0.003", "--shuffle-buffer", "64"]
    said = run(train, *args, "--out", here / "whole")
    assert "96 training and 24 validation images of memory://bucket" in said and "Done" in said
    assert "From 10 tar shards in 16 streams, shuffled among 64 images" in said
    step, calls = Updater.step, []

    def interrupted(self, *more):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, *more)

    monkeypatch.setattr(Updater, "step", interrupted)
    run(train, *args, "--out", here / "broken", code=130)
    run(train, "--resume", here / "broken", "--workers", "0", "--threads", "1")
    a, b = (pd.read_csv(here / name / "metrics.csv") for name in ("whole", "broken"))
    assert a.train_loss.tolist() == b.train_loss.tolist()
    assert a.val_top1_error_pct.tolist() == b.val_top1_error_pct.tolist()
    bench = ["--data", in_memory, "--scales", "48", "--no-flips"]
    bench += ["--measure", "accuracy", "--threads", "1"]
    assert "24 images of memory://bucket" in run(vgg_bench, here / "whole/best.pt", *bench)
    assert pd.read_csv(here / "results/accuracy.csv").top1_error_pct.item() == pytest.approx(
        a.val_top1_error_pct.item(), abs=1e-2
    )


def test_a_url_that_is_not_there_or_breaks_is_named(here, in_memory):
    args = ["--arch", "A", *THIN, "--epochs", "1", "--out", here / "run"]
    assert "memory://gone/shards.json: cannot be read (FileNotFoundError" in run(
        train, "--data", "memory://gone", *args, code=2
    )
    assert "nosuch://x/shards.json: cannot be read (ValueError" in run(
        train, "--data", "nosuch://x", *args, code=2
    )
    views = views_of(in_memory)
    fsspec.filesystem("memory").rm_file("/bucket/train-000004.tar")
    for workers in (0, 1):
        with pytest.raises(InputError) as caught:
            list(train_batches(views, 0, workers, pin=False))
        message = caught.value.message
        gone = "memory://bucket/train-000004.tar: cannot be read (FileNotFoundError"
        assert message.startswith(gone) and "Traceback" not in message
    everything = {Scale(48, "bilinear"): np.ones(96, bool)}
    for ask in (
        lambda: views.dataset.read(45),
        lambda: views.dataset.content_sha256(2),
        lambda: measure_colours(views.dataset.subset(90), 2),
        # unlike a damaged image it is never skipped
        lambda: list(size_batches(views.dataset, everything, 4, 2, on_bad=lambda *_: None)),
    ):
        with pytest.raises(Unreachable, match="memory://bucket/train-000004.tar: cannot be read"):
            ask()


def test_a_stream_that_breaks_off_is_named(in_memory, monkeypatch):
    class Broken(Forward):
        def read(self, size: int = -1) -> bytes:
            if self.data.tell() > 5000:
                raise ConnectionResetError("peer gone")
            return super().read(size)

    views, opened = views_of(in_memory), MemoryFileSystem._open
    monkeypatch.setattr(
        MemoryFileSystem,
        "_open",
        lambda self, path, *args, **more: Broken(opened(self, path).read(), path),
    )
    message = r"bucket/train-00000\d.tar: cannot be read \(ConnectionResetError: peer gone\)"
    with pytest.raises(InputError, match=message):
        list(train_batches(views, 0, 0, pin=False))


def test_an_unreadable_image_is_left_out_by_name(here, photos_copy):
    (photos_copy / "train/disc/003.jpeg").write_bytes(b"\xff\xd8 no photo")
    run(pack, photos_copy, here / "shards", "--images-per-shard", "10")
    args = ["--arch", "A", "--data", here / "shards", *THIN, "--epochs", "1", "--out"]
    said = run(train, *args, here / "stop", "--workers", "1", code=2)
    assert "_003.jpeg: is not an image of a known format" in said and "/shards/train-0000" in said
    batches = list(train_batches(views_of(here / "shards"), 0, 2, pin=False))
    for epoch in (batches[:6], batches[6:]):
        assert sorted(len(batch.labels) for batch in epoch) == [15, 16, 16, 16, 16, 16]
        assert all(len(batch.unreadable) == 16 - len(batch.labels) for batch in epoch)
    # rows too: that of the missing image is not reused
    assert_same(batches, list(train_batches(views_of(here / "shards"), 0, 0, pin=False)))


def test_a_shard_that_changed_since_it_was_indexed_is_named(packed_copy):
    tar = packed_copy / "train-000002.tar"
    whole, dataset = tar.read_bytes(), open_dataset(packed_copy, "train")
    spoilt = bytearray(whole)
    spoilt[int(dataset.packed.begin[25]) + 30] ^= 1
    for data, broken, message in (
        (whole[:-25000], 29, "its shard is cut short, "),
        (bytes(spoilt), 25, "its bytes differ from those that were indexed"),
    ):
        tar.write_bytes(data)
        with pytest.raises(InputError, match=f"{dataset.files[broken]}: {message}"):
            dataset.decode(broken)
        found = [
            message
            for batch in train_batches(views_of(packed_copy), 0, 0, pin=False)
            for message in batch.unreadable
        ]
        assert any(dataset.files[broken] in text and message in text for text in found)


# --- Other people's tars ---


def tar_of(path: Path, *members, format: int = tarfile.USTAR_FORMAT) -> Path:
    """Members as (name, bytes) or TarInfo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def photo(grey: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (40, 36), grey).save(data, "PNG")
    return data.getvalue()


def test_shards_of_another_program_are_indexed(tmp_path):
    """Their other members, folders and links are skipped. Oracle: what each image shows."""
    links = [
        special("a", tarfile.DIRTYPE),
        special("a/4.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("a/5.cls", tarfile.LNKTYPE, "a/1.png"),
        special("null", tarfile.CHRTYPE),
    ]
    first = [("a/1.png", photo(11)), ("a/1.cls", b"1"), ("a/1.json", b"{}"), ("a/2.cls", b"0\n")]
    first += [("a/2.seg.png", b"x"), ("a/2.PNG", photo(10)), ("._2.png", b"x")]
    tar_of(tmp_path / "train-a.tar", *links, *first)
    tar_of(
        tmp_path / "train-b.tar",
        ("é/" + "n" * 200 + ".png", photo(12)),
        ("é/" + "n" * 200 + ".cls", b"2"),
        format=tarfile.PAX_FORMAT,
    )
    tar_of(
        tmp_path / "val.tar",
        ("n" * 150 + ".png", photo(11)),
        ("n" * 150 + ".cls", b"1"),
        format=tarfile.GNU_FORMAT,
    )
    assert "train: 3 images in 2 shards, each of 1 classes or more" in run(
        pack, "--index", tmp_path
    )
    for classes in (("0", "1", "2"), ("cat", "dog", "cow")):
        dataset = open_dataset(tmp_path, "train")
        assert dataset.classes == classes and open_dataset(tmp_path, "val").classes == classes
        assert [int(dataset.decode(i).max()) for i in range(3)] == [11, 10, 12]
        assert dataset.labels.tolist() == [1, 0, 2]
        assert dataset.files[:2] == ("train-a.tar/a/1.png", "train-a.tar/a/2.PNG")
        assert dataset.files[2].startswith("train-b.tar/é/nnn")
        (tmp_path / "list.txt").write_text("cat\ndog\ncow\n")
        run(pack, "--index", tmp_path, "--classes", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    said = run(pack, "--index", tmp_path, "--classes", tmp_path / "list.txt", code=2)
    for part in ("train-b.tar/é/", "is of class 2, but", "lists 2, counted from 0"):
        assert part in said


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_where_tarfile_finds_them(tmp_path, format):
    rng = np.random.default_rng(0)
    files = [
        (f"{'d/' * (i % 3)}{'x' * (i * 7 % 90)}{i}.jpg", rng.bytes(int(rng.integers(0, 3000))))
        for i in range(40)
    ]
    if format != tarfile.USTAR_FORMAT:
        files += [(f"{'long/' * 40}{i}é.jpg", rng.bytes(600)) for i in range(5)]
    path = tar_of(
        tmp_path / "x.tar",
        *files,
        special("link", tarfile.SYMTYPE, "y" * 150 if format != tarfile.USTAR_FORMAT else "y"),
        format=format,
    )
    with tarfile.open(path) as tar:
        wanted = [(m.name, m.offset_data, m.size) for m in tar.getmembers() if m.isreg()]
    with open(path, "rb") as file:
        assert [(m.name, m.begin, m.size) for m in tars.members(file, "x.tar")] == wanted


A, B = ("a.jpg", b"pixels"), ("a.cls", b"0")


def spoilt_header(size: bytes) -> bytes:
    """A member that claims another size, its checksum set right."""
    block = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ((A,), "train.tar, a: has no a.cls, expected KEY.jpg and KEY.cls"),
        ((A, ("b.jpg", b"x"), ("a.cls", b"0"), ("b.cls", b"0")), "train.tar, a: has no a.cls"),
        ((B,), "train.tar, a: has no image"),
        (
            (A, ("a.cls", b"c\nt")),
            r"train.tar, a.cls: contains b'c\nt', expected the number of a class",
        ),
        ((A, ("a.cls", b"-1")), "a.cls: contains b'-1'"),
        ((A, ("a.cls", b"1" * 5000)), "a.cls: contains b'1111"),
        (
            (A, B, ("b.jpg", b"x"), ("b.cls", b"0"), A, B),
            "train.tar, a.jpg: the key a occurs twice",
        ),
        ((A, ("a.png", b"x"), B), "train.tar, a.png: a second image of the key a"),
        ((("readme.txt", b"x"),), "train.tar, readme: has no image"),
        ((), "train.tar: contains no image beside its class"),
        (
            b"no tar at all" * 100,
            "train.tar: not an uncompressed tar, or damaged after its beginning",
        ),
        (b"short", "train.tar: is cut short after its beginning"),
        (b"\x1f\x8b" + bytes(range(255)) * 8, "train.tar: not an uncompressed tar"),
        (
            spoilt_header(b"77777777777\0") + bytes(1024),
            "train.tar, a.jpg: states a size of 8589934591 bytes, expected at most 268435456",
        ),
        (
            spoilt_header(b"\xff" * 11 + b"\xf0") + bytes(1024),
            "train.tar, a.jpg: states a size of -16 bytes",
        ),
        (spoilt_header(b"00000002000\0") + bytes(1023), "train.tar: is cut short within a.jpg"),
    ],
)
def test_tars_that_are_no_shards_are_refused_by_name(tmp_path, content, says):
    if isinstance(content, bytes):
        (tmp_path / "train.tar").write_bytes(content)
    else:
        tar_of(tmp_path / "train.tar", *content)
    assert says in run(pack, "--index", tmp_path, code=2)
    assert not (tmp_path / "shards.json").exists()


def test_a_tar_cut_anywhere_is_refused(packed, tmp_path):
    whole = (packed / "val-000000.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in (300, 512, 700, end // 2, end - 1):
        (tmp_path / "val.tar").write_bytes(whole[:length])
        assert "val.tar: is cut short" in run(pack, "--index", tmp_path, code=2)


@pytest.mark.parametrize(
    "data",
    [
        b"999999 path=x\n",
        b"x path=x\n",
        b"5 a=",
        b"30 GNU.sparse.size=1000000000\n",
        b"17 size=99999999\n",
        b"0 path=x\n",
    ],
)
def test_damaged_pax_headers_are_refused(tmp_path, data):
    tar_of(tmp_path / "train.tar", A, B)
    header = special("pax", tarfile.XHDTYPE)
    header.size = len(data)
    whole = (
        header.tobuf(tarfile.USTAR_FORMAT)
        + data.ljust(512, b"\0")
        + (tmp_path / "train.tar").read_bytes()
    )
    (tmp_path / "train.tar").write_bytes(whole)
    said = run(pack, "--index", tmp_path, code=2)
    assert "a damaged pax header" in said or "a sparse or huge file" in said


def test_folders_that_hold_no_shards_are_refused(tmp_path):
    assert "has no train*.tar or val*.tar; check --index" in run(pack, "--index", tmp_path, code=2)
    tar_of(tmp_path / "test.tar", A, B)
    assert "test.tar: is neither train*.tar nor val*.tar" in run(pack, "--index", tmp_path, code=2)


# --- shards.json and the index, written by anybody ---


def edited(folder: Path, change) -> str:
    """The message about a shards.json that was changed."""
    path = folder / "shards.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(sealed(document)))
    with pytest.raises(InputError) as caught:
        open_dataset(folder, "train")
    return caught.value.message


def put(at: str, value):
    """A change of one value, as "splits.train.index"."""

    def change(document: dict) -> None:
        *keys, last = at.split(".")
        for key in keys:
            document = document[int(key) if key.isdigit() else key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        ("format", 2, "format 2, expected 1"),
        ("classes", ["a", "a"], "damaged, or not made by this program"),
        ("classes", [], "damaged"),
        ("splits", [], "has no shards for 'train'"),
        ("splits.train", None, "has no shards for 'train'"),
        ("splits.train.shards", 7, "damaged"),
        (
            "splits.train.index",
            "../train.index",
            "names '../train.index', expected files beside it",
        ),
        ("splits.train.index", "/etc/passwd", "names '/etc/passwd'"),
        ("splits.train.index", "shards.json", "no whole index"),
        ("splits.train.index", "gone.index", "no whole index"),
        ("splits.train.shards.0.file", "../../x.tar", "names '../../x.tar'"),
        ("splits.train.shards.0.file", "http://evil/x.tar", "names 'http://evil/x.tar'"),
        (
            "splits.train.shards.0.images",
            9,
            "train.index: does not fit shards.json: a shard has another number of images; make",
        ),
        (
            "splits.train.shards.0.bytes",
            900,
            "train.index: does not fit shards.json: an image ends after its shard; make both again",
        ),
        (
            "splits.train.shards",
            [{"file": "train-000000.tar", "images": 10, "bytes": 10**9}],
            "does not fit shards.json: a shard is above 0",
        ),
        ("names", ["x"], "damaged"),
    ],
)
def test_a_shards_json_that_does_not_hold_is_refused(packed_copy, at, value, says):
    assert says in edited(packed_copy, put(at, value))


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("labels", 4, "a label is above 3"),
        ("labels", -1, "a label is below 0"),
        ("shard", 10, "a shard is above 9"),
        ("shard", -1, "a shard is below 0"),
        ("shard", 3, "its shards are not in order"),
        ("begin", -5, "an image starts before its shard"),
        ("begin", 2**63 - 3, "an image ends after its shard"),
        ("size", -1, "an image has a negative size"),
        ("size", 2**40, "an image has more than 268435456 bytes"),
        ("begin", 0, "its images overlap"),
    ],
)
def test_an_index_may_not_lead_out_of_its_shards(packed_copy, column, value, fault):
    index = read_index(packed_copy / "train.index")
    columns = {name: np.array(values) for name, values in index.columns.items()}
    columns[column][95] = value
    write_index(packed_copy / "train.index", Index({}, columns, index.names))
    message = f"train.index: does not fit shards.json: {fault}; make both again"
    with pytest.raises(InputError, match=message):
        open_dataset(packed_copy, "train")


def test_a_damaged_index_is_refused_here_and_behind_a_url(packed_copy, in_memory, own_cache):
    data = bytearray((packed_copy / "train.index").read_bytes())
    data[-100] ^= 1
    (packed_copy / "train.index").write_bytes(data)
    with pytest.raises(InputError, match="train.index: no whole index .its checksum differs"):
        open_dataset(packed_copy, "train")
    shutil.rmtree(own_cache / "shards", ignore_errors=True)
    fsspec.filesystem("memory").pipe_file("/bucket/train.index", bytes(data))
    with pytest.raises(
        InputError, match="memory://bucket/train.index: not the index that shards.json describes"
    ):
        open_dataset(in_memory, "train")


def test_a_copy_of_an_index_that_was_changed_is_fetched_again(in_memory, own_cache):
    """Oracle: the labels of the index itself. The changed copy has a checksum that fits."""
    labels = open_dataset(in_memory, "train").labels.copy()
    (copy,) = (own_cache / "shards").glob("*.index")
    data = copy.read_bytes()
    begin = data.index(labels.astype("<i8").tobytes())
    end = begin + 8 * len(labels)
    copy.write_bytes(seal_index(data[:begin] + bytes(end - begin) + data[end:]))
    assert (read_index(copy).columns["labels"] == 0).all()
    assert np.array_equal(open_dataset(in_memory, "train").labels, labels)


def test_a_url_s_index_is_fetched_once(in_memory):
    before = open_dataset(in_memory, "train")
    fsspec.filesystem("memory").rm_file("/bucket/train.index")
    assert open_dataset(in_memory, "train").files == before.files
