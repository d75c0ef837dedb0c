"""ImageNet as it is downloaded, in miniature: real names and structure, a few classes and images.

Whatever is packed must give the very shards that the same images give in a plain folder.
"""

import csv
import gzip
import io
import json
import shutil
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io

from bench.cli import main as vgg_bench
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from train.pack import main as pack
from vgg_deploy.data import parquet
from vgg_deploy.data.devkit import read_devkit
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.mat_file import Damaged, read_struct
from vgg_deploy.data.unlabelled import lacks_labels
from vgg_deploy.errors import InputError

WNIDS = ("n01440764", "n02102040", "n03028079", "n03888257")  # of disc, square, stripes, triangle
WORDS = ("tench, Tinca tinca", "English springer", "church, church building", "parachute, chute")
DEVKIT_ORDER = (2, 0, 3, 1)  # of the devkit's ids, which is not that of the wnids


class Miniature:
    """The photos under ILSVRC's names."""

    def __init__(self, photos: Path, root: Path):
        self.root = root
        self.train: dict[str, Path] = {}  # class/name
        self.val: dict[str, Path] = {}  # name, in an order that mixes the classes
        self.val_class: dict[str, int] = {}
        for number, name in enumerate(CLASSES):
            for i, path in enumerate(sorted((photos / "train" / name).iterdir())[:7]):
                self.train[f"{WNIDS[number]}/{WNIDS[number]}_{i}.JPEG"] = path
        photo_of = [sorted((photos / "val" / name).iterdir()) for name in CLASSES]
        order = np.random.default_rng(5).permutation(np.repeat(np.arange(4), 3))
        for i, number in enumerate(order.tolist(), start=1):
            name = f"ILSVRC2012_val_{i:08d}.JPEG"
            self.val[name], self.val_class[name] = photo_of[number].pop(), number

    def folder(self, name: str, val: str) -> Path:
        """A plain folder: train/<class>/*, and val in class folders or flat."""
        root = self.root / name
        for file, path in self.train.items():
            self._copy(path, root / "train" / file)
        for file, path in self.val.items():
            inside = f"{WNIDS[self.val_class[file]]}/{file}" if val == "classes" else file
            self._copy(path, root / "val" / inside)
        if val == "flat":
            lines = [f"{file} {WNIDS[number]}" for file, number in self.val_class.items()]
            (root / "val.txt").write_text("\n".join(lines))
            lines = [f"{wnid} {words}" for wnid, words in zip(WNIDS, WORDS, strict=True)]
            (root / "synset_words.txt").write_text("\n".join(lines))
        return root

    def _copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def tars(self, name: str) -> tuple[Path, Path]:
        """ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar."""
        root = self.root / name
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as outer:
            for wnid in reversed(WNIDS):  # in any order
                inner = io.BytesIO()
                with tarfile.open(fileobj=inner, mode="w") as tar:
                    for file, path in reversed(self.train.items()):
                        if file.startswith(wnid):
                            tar.add(path, file.split("/")[1])
                add(outer, f"{wnid}.tar", inner.getvalue())
        with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
            for file, path in reversed(self.val.items()):
                tar.add(path, f"./{file}")
        return root / "ILSVRC2012_img_train.tar", root / "ILSVRC2012_img_val.tar"

    def devkit(self, name: str, mat: bytes | None = None) -> Path:
        path = self.root / name / "ILSVRC2012_devkit_t12.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = {number: id for id, number in enumerate(DEVKIT_ORDER, start=1)}
        truth = "".join(f"{ids[number]}\n" for number in self.val_class.values())
        with tarfile.open(path, "w:gz") as tar:
            add(tar, "ILSVRC2012_devkit_t12/readme.txt", b"about")
            add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", mat or meta_mat())
            truth_name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
            add(tar, truth_name, truth.encode())
        return path

    def parquets(self, name: str, files: int = 2) -> Path:
        """As ILSVRC/imagenet-1k: labels count by 1,000 names, paths end with the wnid."""
        root = self.root / name
        (root / "data").mkdir(parents=True)
        label = dict(zip(WNIDS, (0, 217, 497, 701), strict=True))
        names = [f"class {i}" for i in range(1000)]
        for wnid, words in zip(WNIDS, WORDS, strict=True):
            names[label[wnid]] = words
        train = [
            (f"{file.split('/')[1][:-5]}_{file[:9]}.JPEG", path, label[file[:9]])
            for file, path in self.train.items()
        ]
        val = [
            (f"{file[:-5]}_{WNIDS[n]}.JPEG", self.val[file], label[WNIDS[n]])
            for file, n in self.val_class.items()
        ]
        for split, rows in (("train", train), ("validation", val), ("test", val[:1])):
            rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
            for number in range(files):
                some = rows[number::files]
                write_parquet(
                    root / "data" / f"{split}-{number:05d}-of-{files:05d}.parquet", some, names
                )
        return root

    def named_as_parquet(self, name: str) -> Path:
        """A plain folder with the file names of the parquet files."""
        root = self.root / name
        for file, path in self.train.items():
            self._copy(path, root / "train" / f"{file[:-5]}_{file[:9]}.JPEG")
        for file, number in self.val_class.items():
            wnid = WNIDS[number]
            self._copy(self.val[file], root / "val" / wnid / f"{file[:-5]}_{wnid}.JPEG")
        return root

    def kaggle(self, name: str) -> Path:
        root = self.root / name
        inside = root / "ILSVRC/Data/CLS-LOC"
        shutil.copytree(self.folder(f"{name}-plain", "flat") / "train", inside / "train")
        shutil.copytree(self.root / f"{name}-plain/val", inside / "val")
        self._copy(next(iter(self.val.values())), inside / "test/ILSVRC2012_test_00000001.JPEG")
        with open(root / "LOC_val_solution.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["ImageId", "PredictionString"])
            for image, number in reversed(self.val_class.items()):
                boxes = f"{WNIDS[number]} 85 1 499 272 " * (1 + number % 2)
                rows.writerow([image.removesuffix(".JPEG"), boxes])
        lines = [f"{wnid} {words}" for wnid, words in zip(WNIDS, WORDS, strict=True)]
        (root / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")
        return root


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def synsets() -> np.ndarray:
    """The struct array of the devkit: its classes, and two synsets above them."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
    fields += ("wordnet_height", "num_train_images")
    rows = [
        (id, WNIDS[number], WORDS[number], f"gloss {id}", 0, np.zeros((1, 0)), 0, 1300)
        for id, number in enumerate(DEVKIT_ORDER, start=1)
    ]
    rows.append((5, "n00001740", "entity", "", 2, np.array([[1.0, 300.0]]), 3, 0))
    rows.append((6, "n00001930", "physical entity", "x" * 90, 1, np.array([[5.0]]), 2, 0))
    array = np.empty((len(rows), 1), [(field, object) for field in fields])
    for i, row in enumerate(rows):
        array[i, 0] = row
    return array


def meta_mat(compressed: bool = True) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"other": np.eye(3), "synsets": synsets()}, do_compression=compressed)
    return file.getvalue()


def write_parquet(path: Path, rows: list[tuple[str, Path, int]], names: list[str] | None) -> None:
    images = [{"bytes": file.read_bytes(), "path": name} for name, file, _ in rows]
    table = pa.table({"image": images, "label": pa.array([r[2] for r in rows], pa.int64())})
    if names:
        label = {"names": names, "_type": "ClassLabel"}
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=3)


@pytest.fixture
def mini(photos, tmp_path):
    return Miniature(photos, tmp_path)


def packed(source: list[object], target: Path) -> str:
    return run(pack, *source, target, "--images-per-shard", "5")


def assert_same_shards(one: Path, other: Path, *but: str) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir()) and len(names) > 10
    for name in names:
        if name not in but:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


# --- ILSVRC's tars ---


def test_tars_give_the_shards_of_a_folder_and_nothing_is_unpacked(mini, tmp_path):
    train, val = mini.tars("tars")
    devkit = mini.devkit("elsewhere")
    before = sorted(tmp_path.rglob("*"))
    output = packed([train, val, devkit], tmp_path / "a")
    assert "train: 28 images in 6 shards" in output and "val: 12 images in 3 shards" in output
    assert "train has 28 images; the whole ImageNet has 1,281,167" in output
    assert "val has 12 images; the whole ImageNet has 50,000" in output
    assert "train has 4 classes; the whole ImageNet has 1,000" in output
    made = {path for path in tmp_path.rglob("*") if path not in before}
    assert made == {tmp_path / "a", *(tmp_path / "a").iterdir()}
    packed([mini.folder("plain", "flat")], tmp_path / "b")
    # a folder whose lists name the classes gives the same names, too
    assert_same_shards(tmp_path / "a", tmp_path / "b")
    dataset = open_dataset(tmp_path / "a", "val")
    assert dataset.names == tuple(words.split(",")[0] for words in WORDS)


@pytest.mark.parametrize("lists", ["devkit", "txt", "kaggle"])
def test_a_folder_of_downloads_is_packed(mini, tmp_path, lists):
    mini.tars("tars")
    if lists == "devkit":
        mini.devkit("tars")
    elif lists == "txt":
        plain = mini.folder("lists", "flat")
        for name in ("val.txt", "synset_words.txt"):
            shutil.copy(plain / name, tmp_path / "tars")
    else:
        root = mini.kaggle("lists")
        for name in ("LOC_val_solution.csv", "LOC_synset_mapping.txt"):
            shutil.copy(root / name, tmp_path / "tars")
    packed([tmp_path / "tars"], tmp_path / "a")
    packed([mini.folder("plain", "flat")], tmp_path / "b")
    assert_same_shards(tmp_path / "a", tmp_path / "b")


def test_one_tar_alone_gives_one_split(mini, tmp_path):
    train, val = mini.tars("tars")
    output = packed([train], tmp_path / "a")
    assert "train: 28 images" in output and "val:" not in output
    assert open_dataset(tmp_path / "a", "train").classes == WNIDS
    mini.devkit("tars")
    assert "val: 12 images" in packed([val], tmp_path / "b")


def test_tars_that_cannot_be_used_are_refused_by_name(mini, tmp_path):
    train, val = mini.tars("tars")
    target = tmp_path / "a"
    output = run(pack, train, val, target, code=2)
    assert "ILSVRC2012_img_val.tar: the classes of its images are not known, there is no" in output
    assert "put ILSVRC2012_devkit_t12.tar.gz or both lists into" in output
    devkit = mini.devkit("tars")
    whole = train.read_bytes()
    for length in (700, len(whole) // 2, len(whole.rstrip(b"\0")) - 1):
        train.write_bytes(whole[:length])
        assert "is cut short" in run(pack, train, val, target, code=2)
    with tarfile.open(train, "w") as tar:
        add(tar, "train/a.JPEG", b"x")
    assert "train/a.JPEG: is no tar, expected one tar per class" in run(pack, train, target, code=2)
    with tarfile.open(train, "w") as tar:
        add(tar, "photos.tar", io.BytesIO(whole[:0]).getvalue())
    assert "photos.tar: is cut short" in run(pack, train, target, code=2)
    train.write_bytes(whole)
    assert "is no file; expected a folder, or ILSVRC2012" in run(
        pack, train, tmp_path / "none.tar", target, code=2
    )
    assert "a second file for train" in run(pack, train, train, target, code=2)
    assert "has no images; expected" in run(pack, devkit, target, code=2)
    mini.val.popitem()
    mini.tars("tars")
    output = run(pack, train, val, devkit, target, code=2)
    assert "has 12 lines for 11 images" in output
    assert not target.exists()


# --- The devkit ---


@pytest.mark.parametrize("compressed", [True, False])
def test_a_struct_array_is_read_as_scipy_reads_it(compressed):
    data = meta_mat(compressed)
    rows = read_struct(data, "synsets")
    expected = scipy.io.loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
    assert len(rows) == len(expected) == 6
    for row, other in zip(rows, expected, strict=True):
        assert list(row) == list(expected.dtype.names)
        for field, value in row.items():
            if isinstance(value, str):
                assert value == str(other[field] if np.size(other[field]) else "")
            elif value is None:
                assert np.size(other[field]) == 0
            else:
                assert value.tolist() == np.atleast_1d(other[field]).tolist()
    with pytest.raises(Damaged, match="no struct array 'other'"):
        read_struct(data, "other")


def test_the_devkit_gives_the_leaves_in_the_order_of_their_ids(mini):
    devkit = read_devkit(mini.devkit("kit"))
    assert devkit.classes.ids == tuple(WNIDS[number] for number in DEVKIT_ORDER)
    assert devkit.classes.names[0] == "church"
    assert len(devkit.truth) == 12


def test_a_flat_folder_beside_the_devkit_is_a_data_set(mini, tmp_path):
    root = mini.folder("flat", "flat")
    expected = open_dataset(root, "val")
    (root / "val.txt").unlink(), (root / "synset_words.txt").unlink()
    mini.devkit("flat")
    dataset = open_dataset(root, "val")
    assert dataset.labels.tolist() == expected.labels.tolist() and dataset.classes == WNIDS
    assert not lacks_labels(root) and not lacks_labels(root / "val")


def test_damage_in_a_devkit_is_one_error(mini, tmp_path):
    """Bytes changed at random, and files cut anywhere: read, or refused as what they are."""
    rng = np.random.default_rng(0)
    whole = meta_mat(compressed=False)
    for i in range(400):
        data = bytearray(whole if i % 2 else meta_mat())
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(0, 256)
        with suppress(Damaged):
            read_struct(bytes(data[: rng.integers(100, len(data) + 1)]), "synsets")
    path = mini.devkit("kit", mat=whole[:300])
    with pytest.raises(InputError, match=r"meta.mat: is not the list of synsets \(it is cut short"):
        read_devkit(path)
    path.write_bytes(mini.devkit("other").read_bytes()[:-200])
    with pytest.raises(InputError, match="cannot be read as a .tar.gz"):
        read_devkit(path)
    path.write_bytes(gzip.compress(bytes(1024)))
    with pytest.raises(InputError, match="has no data/meta.mat or no ground truth"):
        read_devkit(path)
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "zeros", bytes(2**26 + 1))
    with pytest.raises(InputError, match="expected at most 67108864"):
        read_devkit(path)


# --- Kaggle ---


def test_kaggles_folders_are_a_data_set(mini, here):
    root = mini.kaggle("kaggle")
    for data in (root, root / "ILSVRC/Data/CLS-LOC"):
        assert not lacks_labels(data)
        val, train = open_dataset(data, "val"), open_dataset(data, "train")
        assert [Path(file).name for file in val.files] == sorted(mini.val_class)
        for file, label in zip(val.files, val.labels, strict=True):
            assert label == mini.val_class[Path(file).name]
            assert val.read(val.files.index(file)) == mini.val[Path(file).name].read_bytes()
        assert val.classes == train.classes == WNIDS and len(train) == 28
        assert val.names == tuple(words.split(",")[0] for words in WORDS) == train.names
    model = save_net(thin_net("A", classes=WNIDS), here / "a.pt")
    options = ["--scales", "32", "--measure", "accuracy", "--threads", "1", "--no-flips"]
    output = run(vgg_bench, model, "--data", root, *options)
    assert "12 images" in output and "No labels" not in output


def test_kaggles_folders_are_packed(mini, tmp_path):
    output = packed([mini.kaggle("kaggle")], tmp_path / "a")
    assert "the whole ImageNet has 1,281,167" in output
    packed([mini.folder("plain", "flat")], tmp_path / "b")
    assert_same_shards(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("ImageId", "image"), "line 1: expected ImageId,Prediction"),
        (lambda text: text + text.splitlines()[1] + "\n", "is there twice"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "has no line for 1 of 12 images"),
        (lambda text: text + "ILSVRC2012_val_00000099,n01440764 1 1 2 2\n", "there is no ILSVRC"),
        (lambda text: text.replace("n01440764 85", "n99999999 85"), "has the class n99999999"),
        (lambda text: text + "x,n01440764 1 1 2 2 n02102040 1 1 2 2\n", "boxes of one class"),
        (lambda text: text + "x,\n", "boxes of one class"),
    ],
)
def test_a_solution_that_does_not_fit_is_refused(mini, change, says):
    root = mini.kaggle("kaggle")
    path = root / "LOC_val_solution.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError) as error:
        open_dataset(root, "val")
    assert says in error.value.message and str(path) in error.value.message


# --- Parquet ---


def test_parquet_files_give_the_shards_of_a_folder(mini, tmp_path):
    root = mini.parquets("hub")
    output = packed([root], tmp_path / "a")
    assert "train: 28 images" in output and "the whole ImageNet has 50,000" in output
    packed([mini.named_as_parquet("plain")], tmp_path / "b")
    assert_same_shards(tmp_path / "a", tmp_path / "b", "shards.json")  # which has names here
    one, other = (json.loads((tmp_path / name / "shards.json").read_text()) for name in ("a", "b"))
    assert one["names"] == [words.split(",")[0] for words in WORDS]
    assert one["splits"] == other["splits"] and one["classes"] == other["classes"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_labels_without_wnids_have_their_names_or_numbers(mini, tmp_path):
    (tmp_path / "own").mkdir()
    rows = [("a.jpg", path, i % 2) for i, path in enumerate(mini.val.values())]
    write_parquet(tmp_path / "own/train-00000-of-00001.parquet", rows, ["dog", "cat"])
    packed([tmp_path / "own"], tmp_path / "a")
    dataset = open_dataset(tmp_path / "a", "train")
    assert dataset.classes == ("cat", "dog")
    content = {path.read_bytes(): ("dog", "cat")[label] for _, path, label in rows}
    for i, label in enumerate(dataset.labels):
        assert content[dataset.read(i)] == dataset.classes[label]
    rows = [("", path, 3) for path in mini.val.values()]
    write_parquet(tmp_path / "own/train-00000-of-00001.parquet", rows, None)
    packed([tmp_path / "own"], tmp_path / "b")
    assert open_dataset(tmp_path / "b", "train").classes == ("3",)


def test_parquet_files_that_cannot_be_used_are_refused_by_name(mini, tmp_path, monkeypatch):
    root, target = mini.parquets("hub", files=3), tmp_path / "a"
    last = root / "data/train-00001-of-00003.parquet"
    whole = last.read_bytes()
    last.write_bytes(whole[:-9])
    assert f"{last}: cannot be read as parquet" in run(pack, root, target, code=2)
    last.unlink()
    assert "has 2 of the 3 files train-*-of-00003.parquet" in run(pack, root, target, code=2)
    pq.write_table(pa.table({"text": ["a"]}), last)
    assert "has the columns text, expected image and label" in run(pack, root, target, code=2)
    rows = [("x_n01440764.JPEG", path, 5) for path in mini.val.values()]
    write_parquet(last, [("x_n02102040.JPEG", rows[0][1], 5), *rows], None)
    assert "its name says" in run(pack, root, target, code=2)
    write_parquet(last, [(name, path, -1) for name, path, _ in rows], None)
    assert "has the label -1, expected the number of a class" in run(pack, root, target, code=2)
    last.write_bytes(whole)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(parquet.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "has 0.0 GB free, and packing parquet files needs" in run(pack, root, target, code=2)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output = run(pack, root, target, code=2)
    assert (
        'pyarrow is not installed, which reads parquet files; pip install "vgg-deploy[parq'
        in output
    )
    assert not target.exists() and not list(tmp_path.glob(".*"))


# --- Shards of other programs ---


def shards_named(mini, root: Path, names: dict[str, list[str]], text: bool = False) -> Path:
    """Shards of the miniature, with class numbers or wnids in .cls."""
    root.mkdir(parents=True)
    train = [(file.split("/")[1], path, WNIDS.index(file[:9])) for file, path in mini.train.items()]
    val = [(file, path, mini.val_class[file]) for file, path in mini.val.items()]
    for split, rows in (("train", train), ("val", val)):
        for i, name in enumerate(names[split]):
            with tarfile.open(root / name, "w") as tar:
                for file, path, number in rows[i :: len(names[split])]:
                    key = file.removesuffix(".JPEG")
                    add(tar, f"{key}.cls", (WNIDS[number] if text else str(number)).encode())
                    add(tar, f"{key}.jpg", path.read_bytes())
    return root


def assert_labels(mini, root: Path, classes: tuple[str, ...]) -> None:
    """Every image has the class that it has in the miniature."""
    content = {path.read_bytes(): file[:9] for file, path in mini.train.items()}
    content |= {path.read_bytes(): WNIDS[mini.val_class[file]] for file, path in mini.val.items()}
    total = 0
    for split in ("train", "val"):
        dataset = open_dataset(root, split)
        assert dataset.classes == classes
        for i, label in enumerate(dataset.labels.tolist()):
            wnid = content[dataset.read(i)]
            assert classes[label] in (wnid, str(WNIDS.index(wnid)))
        total += len(dataset)
    assert total == len(content)


TIMM = {
    "train": [f"imagenet1k-train-{i:04d}.tar" for i in range(3)],
    "val": [f"imagenet1k-validation-{i:02d}.tar" for i in range(2)],
}


def test_timms_names_are_known(mini, tmp_path):
    root = shards_named(mini, tmp_path / "wds", TIMM)
    (root / "_info.json").write_text("{}")
    output = run(pack, "--index", root)
    assert "train: 28 images in 3 shards" in output and "val: 12 images in 2 shards" in output
    assert "the whole ImageNet has 1,281,167" in output
    assert_labels(mini, root, ("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("train", "val"),
    [("a-train-*.tar", "a-test-*.tar"), ("a-train-{00..02}.tar", "a-test-{000..001}.tar")],
)
def test_other_names_are_given_as_a_glob_or_a_range(mini, tmp_path, train, val):
    names = {
        "train": [f"a-train-{i:02d}.tar" for i in range(3)],
        "val": [f"a-test-{i:03d}.tar" for i in range(2)],
    }
    root = shards_named(mini, tmp_path / "wds", names)
    refused = run(pack, "--index", root, code=2)
    assert "is neither train*.tar nor val*.tar; name the shards with --train GLOB and" in refused
    output = run(pack, "--index", root, "--train", train, "--val", val)
    assert "28 images in 3 shards" in output and "the whole ImageNet" not in output
    assert_labels(mini, root, ("0", "1", "2", "3"))


def test_names_that_find_nothing_are_refused(mini, tmp_path):
    root = shards_named(mini, tmp_path / "wds", TIMM)

    def says(*options, code=2) -> str:
        return run(pack, "--index", root, *options, code=code)

    assert "has no shards named x*.tar" in says("--train", "x*.tar")
    output = says("--train", "imagenet1k-train-{0000..1023}.tar")
    assert "imagenet1k-train-0003.tar: is missing, and 1020 more of the 1024 shards" in output
    assert "is no range of shards" in says("--train", "x-{9..3}.tar")
    assert "without a folder" in says("--train", "../*.tar")
    assert "belongs to both splits" in says("--train", "*.tar", "--val", "imagenet1k-v*.tar")
    assert "--train belongs to --index" in run(pack, root, tmp_path / "a", "--train", "x", code=2)
    assert not (root / "shards.json").exists()
    for tar in root.iterdir():
        tar.rename(f"{tar}.gz")
    assert "is compressed, decompress it first" in says()


def test_classes_may_be_text(mini, tmp_path):
    root = shards_named(mini, tmp_path / "wds", TIMM, text=True)
    run(pack, "--index", root)
    assert_labels(mini, root, WNIDS)
    listed = tmp_path / "classes.txt"
    order = ("n09999999", *reversed(WNIDS))
    listed.write_text("\n".join(order))
    run(pack, "--index", root, "--classes", listed)
    assert_labels(mini, root, order)
    listed.write_text("\n".join(WNIDS[1:]))
    output = run(pack, "--index", root, "--classes", listed, code=2)
    assert "has the class 'n01440764', which" in output


def test_text_and_numbers_do_not_mix(mini, tmp_path):
    root = shards_named(mini, tmp_path / "wds", TIMM, text=True)
    with tarfile.open(root / TIMM["val"][1], "w") as tar:
        add(tar, "a.cls", b"3"), add(tar, "a.jpg", b"x")
    output = run(pack, "--index", root, code=2)
    assert "gives its class as a number, earlier ones as text; use one form" in output


def test_a_huge_class_number_is_refused_at_once(mini, tmp_path):
    root = shards_named(mini, tmp_path / "wds", TIMM)
    with tarfile.open(root / TIMM["val"][1], "w") as tar:
        add(tar, "a.cls", b"999999999"), add(tar, "a.jpg", b"x")
    output = run(pack, "--index", root, code=2)
    assert "imagenet1k-validation-01.tar/a.jpg: is of class 999,999,999, and more than" in output


def test_files_that_are_packed_first_say_so(mini):
    train, _ = mini.tars("tars")
    for root, named in (
        (train.parent, train),
        (train, train),
        (mini.parquets("hub"), mini.root / "hub/data/test-00000-of-00002.parquet"),
    ):
        with pytest.raises(InputError) as error:
            open_dataset(root, "val")
        assert error.value.message.startswith(f"{named}: is a file that is not opened")
        assert error.value.message.endswith(f"python -m train.pack {root} SHARDS")
