"""vgg-features as its users run it: data, layers, runtimes, shards, and what is refused."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.cells import cell_len

from bench.features import command
from bench.features.cli import RUNTIME_NAMES, main
from export.cli import main as vgg_export
from tests.support.naive_descriptors import NaiveDescriptors
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run
from tests.support.warm import until
from train.pack import main as pack
from vgg_deploy import progress
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.features.folder import UNKNOWN, open_features
from vgg_deploy.features.settings import FORMS, JOINED
from vgg_deploy.features.writer import FeatureWriter
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import PACKAGES

ROOT = Path(__file__).parents[3]
OWN = ("--threads", "1", "--scales", "32,48")


@pytest.fixture
def net(here):
    return save_net(thin_net("A"), here / "A.pt")


@pytest.fixture
def paths(photos):
    """The images that are described, in the order of the list."""
    return sorted((photos / "val").glob("*/*"))


def all_of(folder: Path, layer: str) -> np.ndarray:
    return np.concatenate([*open_features(folder).blocks(layer)])


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files except the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6 * np.abs(expected).max())


def test_a_data_set_in_shards_equals_the_naive_evaluation_and_python(net, photos, paths, here):
    output = run(main, net, photos, *OWN, "--layers", "relu7,pool5", "--shard", "10")
    assert "pool5, relu7 of 24 images at Q 32, 48: torch fp32 on cpu, 1 threads" in output
    assert output.endswith("features: pool5 (32 numbers), relu7 (256 numbers); 3 shards")
    folder = open_features("features")
    assert [*folder.images] == [path.relative_to(photos).as_posix() for path in paths]
    assert folder.classes == CLASSES and folder.labels.tolist() == [i // 6 for i in range(24)]
    assert [shard.images for shard in folder.shards] == [10, 10, 4]
    settings = folder.settings
    assert settings.model.name == "A.pt" and settings.model.arch == "A"
    assert (settings.scales, settings.flips, settings.joined, settings.l2) == (
        (32, 48), True, "average", False,
    )  # fmt: skip
    described = load(net, threads=1).descriptors(paths, layers=("pool5", "relu7"), sides=(32, 48))
    naive = NaiveDescriptors(thin_net("A"))
    for layer in ("pool5", "relu7"):
        near(all_of(here / "features", layer), described[layer])
        some = [naive.descriptor(paths[i], layer, (32, 48)) for i in (0, 11, 23)]
        near(all_of(here / "features", layer)[[0, 11, 23]], np.array(some))


@pytest.mark.parametrize("form", FORMS)
def test_stacked_scales_of_unit_length_without_flips(form, net, photos, paths, here):
    options = ["--over-scales", "stack", "--l2", "--no-flips", "--format", form, "--shard", "20"]
    run(main, net, photos / "val", *OWN, *options)
    found = all_of(here / "features", "relu7")
    naive = NaiveDescriptors(thin_net("A"))
    some = [naive.descriptor(paths[i], "relu7", (32, 48), False, True, True) for i in (3, 20)]
    near(found[[3, 20]], np.array(some))
    np.testing.assert_allclose((found.astype(float) ** 2).sum(axis=1), 1, atol=1e-6)
    if form == "parquet":
        table = pd.read_parquet(here / "features" / "relu7-00001.parquet")
        np.testing.assert_array_equal(np.stack(table.feature), found[20:])


@pytest.mark.slow
def test_every_runtime_gives_the_same(net, photos, here):
    run(vgg_export, net, "--onnx", "--ncnn", "--features", "relu3_1,relu7", "--threads", "1")
    exported = sorted((here / "exported").glob("*.onnx"))
    exported += sorted((here / "exported").glob("*.param"))
    has_ncnn = importlib.util.find_spec("ncnn") is not None
    assert len(exported) == 1 + has_ncnn
    run(main, net, photos, *OWN, "--layers", "relu3_1,relu7", "--out", "torch")
    for path in exported:
        output = run(main, path, photos, *OWN, "--out", path.suffix[1:])
        assert output.startswith("relu3_1, relu7 of 24 images at Q 32, 48: ")
        settings = open_features(path.suffix[1:]).settings
        assert settings.model.artifact["outputs"] == ["relu3_1", "relu7"]
        for layer in ("relu3_1", "relu7"):
            found, expected = (all_of(here / name, layer) for name in (path.suffix[1:], "torch"))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())
    output = run(main, exported[0], photos, "--layers", "fc7", code=2)
    assert "gives relu3_1, relu7 and no fc7; open the weights in PyTorch, or export" in output


def start(*words, stderr=subprocess.STDOUT, **more) -> subprocess.Popen:
    """A process of its own, with more environment variables."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    line = [sys.executable, "-m", "bench.features", *map(str, words)]
    return subprocess.Popen(line, env=env, text=True, stdout=subprocess.PIPE, stderr=stderr)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(net, photos, here):
    words = [net, photos, "--threads", "1", "--scales", "192", "--shard", "2"]
    words += ["--layers", "relu1_1,relu7"]
    run(main, *words, "--out", "unbroken")
    process = start(*words, "--out", here / "broken")
    third = here / "broken" / "shard-00002.json"
    until(lambda: third.exists() or process.poll() is not None, 60)
    process.kill()
    process.communicate()
    whole = {path.name: path.stat().st_mtime_ns for path in (here / "broken").glob("shard-*")}
    assert 3 <= len(whole) < 12 and not (here / "broken" / "features.json").exists()
    written = {f"relu7-{name[6:11]}.npy" for name in whole}
    times = {name: (here / "broken" / name).stat().st_mtime_ns for name in written}
    output = run(main, *words, "--out", "broken")
    assert f"{len(whole)} of 12 shards are in broken already" in output
    assert files_of(here / "broken") == files_of(here / "unbroken")
    assert times == {name: (here / "broken" / name).stat().st_mtime_ns for name in written}
    assert not [*here.rglob("*.partial")]
    before = files_of(here / "broken")
    assert "12 of 12 shards are in broken already" in run(main, *words, "--out", "broken")
    assert files_of(here / "broken") == before


@pytest.mark.slow
def test_two_processes_write_the_same_set(net, photos_copy, here):
    """The second of them has the second shard, and the unreadable image in it."""
    bad = photos_copy / "val" / "square" / "001.jpeg"
    bad.write_bytes(b"no image")
    words = [net, photos_copy, *OWN, "--shard", "5", "--on-error", "skip"]
    run(main, *words, "--out", "one")
    processes = [
        start(*words, "--out", here / "two", **of_rank) for of_rank in environments_of_torchrun(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], first + second
    assert "2 processes, each with 1 threads" in first and "5 shards" in first
    assert "Skipped 1 of 24 images, unreadable" in first
    assert second.startswith(f"Skipped: {bad}: ") and len(second.splitlines()) == 1
    assert files_of(here / "two") == files_of(here / "one")


def environments_of_torchrun(count: int) -> list[dict[str, str]]:
    """The variables that torchrun sets for each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    world |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(net, photos, here):
    process = start(net, photos, *OWN, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 141 and process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_keeps_whole_shards(net, photos, here, monkeypatch):
    write = FeatureWriter.write

    def interrupted(self, shard, *given):
        if shard == 2:
            signal.raise_signal(signal.SIGINT)
        write(self, shard, *given)

    words = [net, photos, *OWN, "--shard", "5"]
    monkeypatch.setattr(FeatureWriter, "write", interrupted)
    output = run(main, *words, code=130)
    assert output.endswith("interrupted; whole shards are kept; go on with the same command")
    monkeypatch.setattr(FeatureWriter, "write", write)
    assert "2 of 5 shards are in features already" in run(main, *words)
    run(main, *words, "--out", "unbroken")
    assert files_of(here / "features") == files_of(here / "unbroken")


def test_an_unreadable_image_stops_or_is_skipped(net, photos_copy, here):
    (photos_copy / "val" / "disc" / "003.jpeg").write_bytes(b"no image")
    words = [net, photos_copy, *OWN, "--shard", "8"]
    output = run(main, *words, code=2)
    assert "003.jpeg: is not an image of a known format" in output
    assert output.endswith("remove it or pass --on-error skip")
    assert not (here / "features" / "features.json").exists()
    (photos_copy / "val" / "disc" / "notes.txt").write_text("no image by its name")
    assert "notes.txt" in run(main, *words, code=2)
    output = run(main, *words, "--on-error", "skip")
    assert "Ignored 1 files that are not images by their names" in output
    assert "Skipped: " in output and "Skipped 1 of 24 images, unreadable" in output
    folder = open_features("features")
    assert [shard.images for shard in folder.shards] == [7, 8, 8]
    assert "val/disc/003.jpeg" not in folder.images and len(folder) == 23
    one = here / "one" / "bad.png"
    one.parent.mkdir()
    one.write_bytes(b"no image")
    output = run(main, net, one.parent, "--out", "none", "--on-error", "skip", code=2)
    assert output.endswith("none: none of the 1 images could be read")
    assert not (here / "none" / "features.json").exists()


def test_a_store_that_does_not_answer_is_never_skipped(net, photos, here, monkeypatch):
    def silent(*given):
        yield 0, Unreachable("val-000000.tar: does not answer", "check the connection")

    monkeypatch.setattr(command, "decoded", silent)
    output = run(main, net, photos, *OWN, "--on-error", "skip", code=2)
    assert output.endswith("val-000000.tar: does not answer; check the connection")


@pytest.mark.slow
def test_images_without_labels_and_those_of_shards(net, photos, paths, here):
    flat = here / "flat"
    flat.mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, flat / f"{number:02d}.jpeg")
    run(main, net, flat, *OWN, "--out", "a")
    folder = open_features("a")
    assert folder.classes == () and set(folder.labels.tolist()) == {UNKNOWN}
    assert [*folder.images] == [f"{number:02d}.jpeg" for number in range(24)]
    run(main, net, photos, "--no-labels", *OWN, "--out", "b")
    assert open_features("b").classes == ()
    run(pack, photos, here / "packed", "--images-per-shard", "10")
    run(main, net, here / "packed", *OWN, "--out", "c")
    run(main, net, here / "packed", "--split", "train", *OWN, "--out", "d")
    packed = open_features("c")
    assert packed.classes == CLASSES and len(open_features("d")) == 96
    rows = all_of(here / "a", "relu7")
    expected = {(path.parent.name, path.stem): row for path, row in zip(paths, rows, strict=True)}
    numbers = [Path(image).stem[-3:] for image in packed.images]  # val-000000.tar/00000000_000.jpeg
    names = [(CLASSES[label], one) for label, one in zip(packed.labels, numbers, strict=True)]
    assert sorted(names) == sorted(expected)
    near(all_of(here / "c", "relu7"), np.array([expected[name] for name in names]))


def test_exif_is_ignored_or_applied(net, photos, here):
    """Oracle: the image that Pillow turned."""
    rng = np.random.default_rng(0)
    upright = photo_of("triangle", rng).resize((80, 50))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    for name, image, how in (("exif", turned, exif), ("upright", upright, Image.Exif())):
        (here / name).mkdir()
        image.save(here / name / "a.png", exif=how)
    output = run(main, net, "exif", *OWN, "--out", "ignored")
    assert "1 of 1 images carry an EXIF rotation, which is not applied" in output
    run(main, net, "exif", *OWN, "--exif", "apply", "--out", "applied")
    run(main, net, "upright", *OWN, "--out", "expected")
    applied, expected, ignored = (
        all_of(here / name, "relu7") for name in ("applied", "expected", "ignored")
    )
    np.testing.assert_array_equal(applied, expected)
    assert np.abs(ignored - expected).max() > 1e-3 * expected.max()
    other = run(main, net, "exif", *OWN, "--exif", "apply", "--out", "ignored", code=2)
    assert "ignored: contains other features: the images are others, or have changed" in other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scales", "32"], "scales is [32, 48], not [32]"),
        (["--no-flips"], "flips is True, not False"),
        (["--l2"], "l2 is False, not True"),
        (["--over-scales", "stack"], "relu7 is 256, not 512"),
        (["--layers", "fc7"], "the layers are relu7, not fc7"),
        (["--format", "parquet"], "form is 'npy', not 'parquet'"),
        (["--shard", "8"], "images_per_shard is 512, not 8"),
        (["--precision", "bf16"], "model.precision is 'fp32', not 'bf16'"),
        (["--split", "train"], "the images are others, or have changed"),
    ],
)
def test_a_folder_of_other_settings_is_refused(options, message, written, photos):
    before = files_of(written / "features")
    output = run(main, written / "A.pt", photos, *OWN, *options, code=2)
    assert "features: contains other features: " in output and message in output
    assert output.endswith("choose another folder, or remove this one")
    assert files_of(written / "features") == before


@pytest.fixture(scope="module")
def complete(tmp_path_factory, photos):
    """A folder with a net and its features."""
    folder = tmp_path_factory.mktemp("complete")
    net = save_net(thin_net("A"), folder / "A.pt")
    run(main, net, photos, *OWN, "--out", folder / "features")
    return folder


@pytest.fixture
def written(complete, monkeypatch):
    monkeypatch.chdir(complete)
    return complete


def test_another_stated_input_is_another_folder(here, photos):
    """Weights of another project, whose input is stated."""
    arrays = {
        name.replace(".weight", "_W").replace(".bias", "_b"): tensor.numpy()
        for name, tensor in thin_net("A").state_dict().items()
    }
    np.savez(here / "A.npz", **arrays)
    output = run(main, "A.npz", photos / "val", *OWN)
    assert "A.npz: input BGR, x - mean" in output and "--channel-order" in output
    output = run(main, "A.npz", photos / "val", *OWN, "--channel-order", "RGB", code=2)
    assert "contains other features: model.input is 'BGR, x - mean with mean 123.68" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A.pt", "nowhere"], "nowhere"),
        (["A.pt", "A.pt"], "A.pt"),
        (["A.pt", "empty"], "expected empty/CLASS/image files; check DATA"),
        (["none.pt", "PHOTOS"], "none.pt: no such file; give a checkpoint"),
        (["A.pt", "PHOTOS", "--layers", "conv9"], "net A has no layer 'conv9'; choose from conv1"),
        (["A.pt", "PHOTOS", "--layers", "posterior"], "net A has no layer 'posterior'"),
        (["A.pt", "PHOTOS", "--layers", ","], "names no layer; write relu7, say"),
        (["A.pt", "PHOTOS", "--scales", "16"], "Q 16 gives no value of relu7, which needs images"),
        (["A.pt", "PHOTOS", "--over-scales", "stac"], "did you mean stack?"),
        (["A.pt", "PHOTOS", "--mean", "0.5,0.5,0.5"], "is of 0-1 pixels and needs a std"),
        (["A.pt", "PHOTOS", "--runtime", "ncnn"], "the runtime ncnn does not open it; choose from"),
        (["A.pt", "PHOTOS", "--out", "A.pt"], "'A.pt' is a file"),
        (["A.pt", "PHOTOS", "--out", "A.pt/x"], "A.pt/x: cannot be used (Not a directory); choose"),
        (["A.pt", "PHOTOS", "--out", "other"], "other: contains notes.txt, and no features; choos"),
        (["A.pt", "PHOTOS", "--out", "/proc/x"], "/proc/x: cannot be used (No such file or direc"),
        (["A.pt", "."], "--out features is in the folder of the images, ., which it would change"),
        (["A.pt", "empty", "--out", "empty/a/b"], "is in the folder of the images, empty"),
        (["A.pt", "empty", "--out", "empty"], "is in the folder of the images, empty"),
        (["A.pt", "PHOTOS", "--shard", "0"], "0 is not in the range"),
        (["A.pt", "PHOTOS", "--no-labels", "--split", "train"], "/train, and leave --split out"),
        (["A.pt"], "Missing argument 'DATA'"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, written, photos):
    for name in ("empty", "other"):
        (written / name).mkdir(exist_ok=True)
    (written / "other" / "notes.txt").touch()
    words = [str(photos) if word == "PHOTOS" else word for word in words]
    assert message in run(main, *words, code=2)


def test_a_folder_that_cannot_be_written(written, photos, monkeypatch):
    """Root writes everywhere, so the refusal of the system is made here."""

    def refused(self, *args, **settings):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    output = run(main, "A.pt", photos, "--out", "readonly", code=2)
    assert output.endswith("readonly: cannot be used (Permission denied); choose another folder")


def test_a_net_without_finite_values_fails_the_check(here, photos):
    net = thin_net("A")
    net.fc7.weight.data[3] = 3e38  # finite, but its products are not
    save_net(net, here / "A.pt")
    output = run(main, "A.pt", photos, *OWN, code=1)
    assert "A.pt: gives values of relu7 that are not finite" in output
    assert not (here / "features" / "features.json").exists()


def test_all_that_is_printed_fits_80_columns(net, photos):
    result = CliRunner().invoke(
        main, [str(net), os.path.relpath(photos), *OWN, "--layers", "pool5"]
    )
    assert result.exit_code == 0
    assert all(cell_len(line) <= 80 for line in result.output.splitlines())
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    long = [line for line in lines if cell_len(line) > 80]
    assert all("|" in line for line in long), long  # the names of all runtimes


def test_progress_counts_images_and_estimates_the_rest(net, photos, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY", 0)
    result = CliRunner().invoke(main, [str(net), str(photos), *OWN, "--shard", "6"])
    shown = [line for line in result.stderr.splitlines() if line.startswith("24 images")]
    assert len(shown) == 25
    assert re.fullmatch(r"24 images   50 %  \d:\d\d left  \d+\.\d images/s", shown[11])
    assert re.fullmatch(r"24 images  done in \d:\d\d  \d+\.\d images/s", shown[-1])


def test_memory_waits_for_no_whole_data_set(net, photos, monkeypatch, here):
    """The first shard is written before the images of the third are decoded."""
    decoded, written = [], []
    real, write = command.decoded, FeatureWriter.write

    def noted(*given):
        for index, image in real(*given):
            decoded.append(index)
            yield index, image

    def noting(self, shard, *given):
        written.append((shard, max(decoded)))
        write(self, shard, *given)

    monkeypatch.setattr(command, "decoded", noted)
    monkeypatch.setattr(FeatureWriter, "write", noting)
    run(main, net, photos, *OWN, "--shard", "5")
    assert written == [(0, 4), (1, 9), (2, 14), (3, 19), (4, 23)]


def test_choices_are_those_of_the_core():
    options = {option.name: option for option in main.params}
    assert set(RUNTIME_NAMES) == set(PACKAGES)
    assert options["over_scales"].type.choices == JOINED
    assert options["form"].type.choices == FORMS


def test_the_manifest_names_what_is_no_text(here, photos):
    """A folder whose name is not UTF-8."""
    odd = os.fsdecode(b"l\xe9")
    shutil.copytree(photos / "val" / "disc", here / odd)
    net = save_net(thin_net("A"), here / "A.pt")
    run(main, net, odd, *OWN)
    manifest = json.loads((here / "features" / "features.json").read_text())
    assert manifest["data"]["name"] == "l\\udce9"
    assert len(open_features("features")) == 6
