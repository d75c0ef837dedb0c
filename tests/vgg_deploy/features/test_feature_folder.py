"""What is written into a folder of features is read again, by others too."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from tests.support.features import feature_settings, write_features
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.features.folder import UNKNOWN, open_features
from vgg_deploy.features.image_list import repeated
from vgg_deploy.features.normalise import l2_normalised
from vgg_deploy.features.writer import feature_writer
from vgg_deploy.files import sha256

ROOT = Path(__file__).parents[3]
IMAGES = [
    "cat/0.jpg", "cat/a,b.jpg", 'cat/"q".jpg', '"cat".jpg', "=1+1.jpg", "dog/a\nb.jpg",
    "dog/\udcff.jpg", "dog/::error::.jpg", "dog/é 😀.jpg", "none.jpg",
]  # fmt: skip
CLASSES = ["cat"] * 4 + ["=dog"] * 5 + [""]


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=(10, d)).astype("f4") for name, d in (("relu7", 6), ("pool5", 4))}


@pytest.fixture
def folder(tmp_path, rows):
    return write_features(tmp_path / "features", IMAGES, CLASSES, rows)


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_a_folder_comes_back(tmp_path, rows, form):
    folder = write_features(tmp_path / "features", IMAGES, CLASSES, rows, form=form)
    opened = open_features(folder)
    assert list(opened.images) == IMAGES and len(opened) == 10
    assert opened.classes == ("=dog", "cat")
    assert opened.labels.tolist() == [1] * 4 + [0] * 5 + [UNKNOWN]
    assert opened.settings == feature_settings(form=form)
    for layer, array in rows.items():
        blocks = list(opened.blocks(layer))
        assert [len(block) for block in blocks] == [3, 3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(blocks), array)
        kept = np.array([9, 0, 4, 4, 2])
        np.testing.assert_array_equal(opened.take(layer, kept), array[kept])


def test_others_read_the_arrays_and_the_lists(folder, rows):
    """Oracles: numpy.load without pickles, Python's csv and json."""
    whole = np.concatenate(
        [np.load(folder / f"relu7-{k:05d}.npy", allow_pickle=False) for k in range(4)]
    )
    np.testing.assert_array_equal(whole, rows["relu7"])
    found = []
    for k in range(4):
        with open(folder / f"images-{k:05d}.csv", newline="") as file:
            found += list(csv.reader(file))[1:]
    names = [json.loads(cell) if cell.startswith('"') else cell for cell, _ in found]
    assert names == IMAGES
    manifest = json.loads((folder / "features.json").read_text())
    for shard in manifest["shards"]:
        assert {name: sha256(folder / name) for name in shard["sha256"]} == shard["sha256"]
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {
        "features.json", *(name for shard in manifest["shards"] for name in shard["sha256"]),
    }  # fmt: skip


def test_another_program_reads_parquet(tmp_path, rows):
    """Oracle: pyarrow, whose table has plain lists."""
    folder = write_features(tmp_path / "features", IMAGES, CLASSES, rows, form="parquet")
    table = pyarrow.parquet.read_table(folder / "pool5-00001.parquet")
    np.testing.assert_array_equal(np.array(table["feature"].to_pylist()), rows["pool5"][3:6])


def test_arrays_are_mapped(folder):
    (block, *_) = open_features(folder).blocks("relu7")
    owner = block
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner, np.memmap) and not block.flags.writeable


def test_a_run_goes_on_after_the_last_whole_shard(tmp_path, rows, folder):
    settings, again = feature_settings(), tmp_path / "again"
    with feature_writer(again, settings) as writer:
        assert writer.shards == (0, 1, 2, 3)
        for shard in (0, 2):
            _write(writer, shard, rows)
    stamp = (again / "relu7-00000.npy").stat().st_mtime_ns
    with pytest.raises(InputError, match="is not complete"):
        open_features(again)
    (again / "pool5-00002.npy").unlink()
    with feature_writer(again, settings) as writer:
        assert writer.shards == (1, 2, 3)
        with pytest.raises(InputError, match="shard 1 is missing"):
            writer.finish()
        for shard in writer.shards:
            _write(writer, shard, rows)
        writer.finish()
    assert (again / "relu7-00000.npy").stat().st_mtime_ns == stamp
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    with feature_writer(again, settings) as writer:
        assert writer.shards == ()


def _write(writer, shard, rows):
    mine = writer.settings.images_of(shard)
    part = {layer: array[mine.start : mine.stop] for layer, array in rows.items()}
    writer.write(shard, IMAGES[mine.start : mine.stop], CLASSES[mine.start : mine.stop], part)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scales": (256,)}, "scales is [256, 384], not [256]"),
        ({"flips": False}, "flips is True, not False"),
        ({"joined": "stack"}, "joined is 'average', not 'stack'"),
        ({"l2": True}, "l2 is False, not True"),
        ({"layers": {"relu7": 6, "pool4": 4}}, "the layers are relu7, pool5, not relu7, pool4"),
        ({"layers": {"pool5": 4, "relu7": 6}}, "the layers are relu7, pool5, not pool5, relu7"),
        ({"images_per_shard": 4}, "images_per_shard is 3, not 4"),
        ({"count": 11}, "count is 10, not 11"),
        ({"form": "parquet"}, "form is 'npy', not 'parquet'"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused(tmp_path, rows, folder, changes, named, complete):
    target = folder if complete else tmp_path / "part"
    with feature_writer(target, feature_settings()):
        pass
    other = feature_settings(**{"count": 10, "layers": None, **changes})
    with pytest.raises(InputError) as refused, feature_writer(target, other):
        pass
    assert named in refused.value.message


def test_another_net_or_other_images_are_refused_and_other_names_are_not(folder):
    from dataclasses import replace

    settings = feature_settings()
    renamed = replace(settings.model, name="x/D.pt", artifact={"source": "y"})
    with feature_writer(folder, replace(settings, model=renamed)) as writer:
        assert writer.shards == ()
    for part, named in (("model", "the model is another"), ("data", "the images are others")):
        other = replace(settings, **{part: replace(getattr(settings, part), sha256="c" * 64)})
        with pytest.raises(InputError, match=named), feature_writer(folder, other):
            pass


def test_a_folder_of_other_files_and_one_in_use_are_refused(tmp_path, folder):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    settings = feature_settings()
    with pytest.raises(InputError, match=r"contains notes\.txt"):
        feature_writer(tmp_path / "mine", settings).__enter__()
    code = (
        "from tests.support.features import *; import sys, pathlib\n"
        "with feature_writer(pathlib.Path(sys.argv[1]), feature_settings()): pass\n"
    )
    with feature_writer(folder, settings):
        done = subprocess.run(
            [sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True
        )
    assert "another process is writing features here" in done.stderr


def test_shards_with_images_left_out(tmp_path, rows):
    settings = feature_settings()
    with feature_writer(tmp_path, settings) as writer:
        for shard, left in enumerate(([0, 2], [], [6, 7, 8], [9])):
            part = {layer: array[left] for layer, array in rows.items()}
            writer.write(shard, [IMAGES[i] for i in left], [CLASSES[i] for i in left], part)
        writer.finish()
    opened = open_features(tmp_path)
    assert list(opened.images) == [IMAGES[i] for i in (0, 2, 6, 7, 8, 9)]
    kept = np.array([5, 1, 2])
    np.testing.assert_array_equal(opened.take("relu7", kept), rows["relu7"][[9, 2, 6]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_never_written(tmp_path, rows, value):
    rows["pool5"][4, 1] = value
    with feature_writer(tmp_path, feature_settings()) as writer:
        _write(writer, 0, rows)
        with pytest.raises(CheckFailed, match="from pool5 has values that are not finite"):
            _write(writer, 1, rows)
    assert not list(tmp_path.glob("*-00001*"))


@pytest.mark.slow
def test_after_every_write_that_failed_the_next_run_completes_the_folder(tmp_path):
    """At every odd write the disk is full, at every even one the process dies."""
    script = """
import os, sys
from pathlib import Path
import numpy as np
from tests.support.features import write_features
from tests.support.nth_write import FullDisk
rows = {"relu7": np.arange(24, dtype="f4").reshape(6, 4)}
def write(folder):
    write_features(folder, list("abcdef"), list("xxyyzz"), rows)
def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}
class Dies(FullDisk):
    def _write(self, path):
        try:
            super()._write(path)
        except OSError:
            os._exit(9)
root = Path(sys.argv[1])
write(root / "calm")
codes = []
for nth in range(1, 200):
    folder = root / str(nth)
    child = os.fork()
    if not child:
        (FullDisk if nth % 2 else Dies)(nth, folder).install()
        try:
            write(folder)
        except BaseException as error:
            os._exit(2 if type(error).__name__ == "InputError" else 70)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if codes[-1]:
        write(folder)
    assert content(folder) == content(root / "calm"), nth
    if codes[-4:] == [0] * 4:
        break
print(*codes)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    codes = [int(code) for code in done.stdout.split()]
    assert {*codes} <= {0, 2, 9} and codes.count(2) > 10 and codes.count(9) > 10, codes


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    match kind:
        case "flipped":
            path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        case "cut":
            path.write_bytes(data[:-3])
        case "missing":
            path.unlink()
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "device":
            path.unlink()
            path.symlink_to("/dev/zero")
        case "folder":
            path.unlink()
            path.mkdir()
        case "endless":
            os.truncate(path, 2**40)


@pytest.mark.parametrize(
    "kind", ["flipped", "cut", "missing", "pipe", "device", "folder", "endless"]
)
@pytest.mark.parametrize("name", ["relu7-00002.npy", "images-00001.csv", "features.json"])
def test_damaged_files_are_named(folder, name, kind):
    if (name, kind) == ("features.json", "flipped"):
        kind = "cut"
    damage(folder / name, kind)
    with pytest.raises(InputError) as refused:
        open_features(folder)
    assert name in refused.value.message and len(refused.value.message.splitlines()) == 1


def sealed(folder: Path, name: str, data: bytes) -> None:
    """Write a file, and its sha256 into the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "features.json").read_text())
    for shard in manifest["shards"]:
        if name in shard["sha256"]:
            shard["sha256"][name] = sha256(folder / name)
    (folder / "features.json").write_text(json.dumps(manifest))


def npy(array) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((3, 6), np.nan, "f4"), "not finite"),
        (np.array([[np.inf] * 6] * 3, "f4"), "not finite"),
        (np.zeros((3, 6), "f8"), "3 x 6 float32"),
        (np.zeros((6, 3), "f4"), "3 x 6 float32"),
        (np.zeros((3, 6), "f4", order="F"), "3 x 6 float32"),
        (np.zeros((3, 6), ">f4"), "3 x 6 float32"),
        (np.array([[print] * 6] * 3, object), "3 x 6 float32"),
    ],
)
def test_arrays_of_others_with_fitting_checksums(folder, array, reason):
    sealed(folder, "relu7-00001.npy", npy(array))
    opened = open_features(folder)
    with pytest.raises(InputError, match=reason):
        list(opened.blocks("relu7"))


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\3\4", b"\x93NUMPY\1\0\xff\xff" + b"(" * 70000, npy(np.zeros((3, 6), "f4")) + b"x"],
)
def test_other_files_with_fitting_checksums(folder, data):
    sealed(folder, "relu7-00001.npy", data)
    with pytest.raises(InputError, match=r"relu7-00001\.npy"):
        list(open_features(folder).blocks("relu7"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,class\na,x\nb,x\n", "2 images, expected 3"),
        ("image,class\na,x\nb,x\na,x\n", "lists a twice"),
        ("image,class\na,x\nb,x\nnone.jpg,x\n", "lists none.jpg twice"),
        ("image,class\na,x\nb,x\nc\n", "is not image,class"),
        ("image,class\na,x\nb,x\n,x\n", "is not image,class"),
        ("a,x\nb,x\nc,x\n", "does not begin with image,class"),
        ('image,class\n"""a",x\nb,x\nc,x\n', "is not a name"),
        ('image,class\n"""\\ud800""",x\nb,x\nc,x\n', "is not a name"),
        ('image,class\n"a,x\nb,x\nc,x\n', "cannot be read"),
        ("image,class\n\0,x\nb,x\nc,x\n" + "y" * 200_000, "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_lists_of_others_with_fitting_checksums(folder, text, reason):
    sealed(folder, "images-00001.csv", text.encode("latin-1"))
    with pytest.raises(InputError, match=reason):
        open_features(folder)


@pytest.mark.parametrize("kind", ["rows", "type", "nulls", "names", "no parquet", "bomb"])
def test_parquet_of_others_with_fitting_checksums(tmp_path, rows, kind):
    import pyarrow as pa

    folder = write_features(tmp_path / "f", IMAGES, CLASSES, rows, form="parquet")
    numbers = pa.array(np.zeros(12, "f4"))
    column = pa.FixedSizeListArray.from_arrays(numbers, 4)
    tables = {
        "rows": {"feature": column[:2]},
        "type": {"feature": pa.FixedSizeListArray.from_arrays(numbers.cast("double"), 4)},
        "nulls": {"feature": pa.array([None, [0.0] * 4, [0.0] * 4], pa.list_(pa.float32(), 4))},
        "names": {"other": column},
        "bomb": {"feature": pa.array(["x"] * 3)},
    }
    path = tmp_path / "other.parquet"
    path.write_bytes(b"PAR1")
    if kind in tables:
        pa.parquet.write_table(pa.table(tables[kind]), path)
    sealed(folder, "pool5-00001.parquet", path.read_bytes())
    with pytest.raises(InputError, match=r"pool5-00001\.parquet"):
        list(open_features(folder).blocks("pool5"))


VALUES = [None, True, -1, 0, 2**63, 10**30, 1.5, "", "x", "../x", [], {}, [0], {"a": 1}, [[]]]


def places(value, way=()):
    """The ways to all values of a document."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, content in inner:
        if isinstance(content, dict | list) and content:
            yield from places(content, (*way, key))
        else:
            yield (*way, key)


def test_manifests_of_others(folder):
    """Every value replaced by others, and left out: one sentence or the same rows."""
    path = folder / "features.json"
    valid = path.read_text()
    whole = [list(map(bytes, open_features(folder).blocks("relu7")))]
    refused = 0
    for way in list(places(json.loads(valid)))[1:]:
        for value in (*VALUES, "remove"):
            document = json.loads(valid)
            inner = document
            for key in way[:-1]:
                inner = inner[key]
            if repr(value) == repr(inner[way[-1]]):
                continue
            if value == "remove":
                del inner[way[-1]]
            else:
                inner[way[-1]] = value
            path.write_text(json.dumps(document))
            try:
                found = [list(map(bytes, open_features(folder).blocks("relu7")))]
            except InputError as error:
                refused += 1
                assert str(folder) in error.message and "\n" not in error.message, error.message
            else:
                assert found == whole
                assert way[0] in (
                    "model",
                    "data",
                    "flips",
                    "l2",
                    "written_by",
                    "scales",
                    "count",
                ), way
    assert refused > 300


def test_an_unknown_layer_is_answered_with_a_guess(folder):
    for use in (
        lambda: open_features(folder, ["relu_7"]),
        lambda: open_features(folder).width("relu_7"),
    ):
        with pytest.raises(InputError, match="choose from relu7, pool5; did you mean relu7"):
            use()


def test_only_the_files_of_the_layers_asked_for_are_checked(folder):
    damage(folder / "pool5-00000.npy", "flipped")
    assert len(open_features(folder, ["relu7"])) == 10
    with pytest.raises(InputError, match="another sha256"):
        open_features(folder, ["pool5"])


def test_normalised_rows():
    """Oracle: torch.nn.functional.normalize, which also leaves zeros."""
    rows = np.random.default_rng(1).normal(size=(50, 33)).astype("f4") * 1e3
    rows[7], rows[8] = 0, 1e-30
    expected = torch.nn.functional.normalize(torch.from_numpy(rows).double(), eps=1e-300)
    np.testing.assert_allclose(l2_normalised(rows), expected.numpy(), rtol=1e-7, atol=0)
    assert (l2_normalised(rows)[7] == 0).all()


def test_repeated_names():
    from vgg_deploy.data.index_file import Names

    assert repeated(Names.of(map(str, range(1000)))) is None
    assert repeated(Names.of([*map(str, range(1000)), "77"])) == "77"


@pytest.mark.slow
def test_processes_write_disjoint_shards(tmp_path, folder):
    """Two real processes, as torchrun starts them; the bytes are those of one process."""
    script = tmp_path / "write.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from tests.support.features import feature_settings\n"
        "from tests.vgg_deploy.features.test_feature_folder import CLASSES, IMAGES, _write\n"
        "from vgg_deploy.features.writer import feature_writer\n"
        "from vgg_deploy.job import joined\n"
        "rng = np.random.default_rng(3)\n"
        "rows = {name: rng.normal(size=(10, d)).astype('f4')\n"
        "        for name, d in (('relu7', 6), ('pool5', 4))}\n"
        "target = Path(sys.argv[1])\n"
        "with joined() as job, feature_writer(target, feature_settings(), job) as writer:\n"
        "    assert writer.shards == ((0, 2), (1, 3))[job.rank], writer.shards\n"
        "    for shard in writer.shards:\n"
        "        _write(writer, shard, rows)\n"
        "    writer.finish()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in "01":
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, script, tmp_path / "two"]
        processes.append(subprocess.Popen(words, env={**os.environ, **place}))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
