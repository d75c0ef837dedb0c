"""The readers of files from others: valid small files, and what a sound result is.

Each reader builds its files once. `read` takes a folder with one damaged file, returns what was
read in a comparable form, and asserts that it is sound. The project's own errors leave it.
"""

import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.accuracy.cell_store import CellSize, exclusive, open_cell
from export.quantize.calibration import Calibration, _document, read_calibration
from export.quantize.ranges import BINS, Range, clip
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from tests.fuzz.described_files import DESCRIBED
from tests.fuzz.feature_folders import FOLDERS
from tests.fuzz.own_files import OWN
from tests.fuzz.reader import Reader, Victim, seal_index, seal_json, seal_tar
from tests.fuzz.small_models import PIXELS, photos, small_artifact, small_onnx, thin_state
from tests.support.nets import CLASSES, save_net, thin_net
from train.chain import saved_chain
from train.recipe.config import TrainConfig
from train.recipe.stages import FineTune
from train.record.history import read_histories
from train.record.run_folder import Run
from train.record.state import State
from train.record.tables import COLUMNS, STEP_COLUMNS, rows_up_to, write_table
from vgg_deploy.data.annotations import open_annotations, with_boxes
from vgg_deploy.data.blacklist import without_listed
from vgg_deploy.data.foreign_shards import index_shards
from vgg_deploy.data.ilsvrc import flat_images
from vgg_deploy.data.kaggle import read_solution
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import check_manifest, manifest_path
from vgg_deploy.exported.ncnn_files import find_ncnn
from vgg_deploy.exported.trt_manifest import (
    EngineManifest,
    InputShape,
    Profile,
    check_engine,
)
from vgg_deploy.files import sha256, write_text
from vgg_deploy.images.decode import image_size, read_image
from vgg_deploy.net.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from vgg_deploy.net.class_lists import read_class_list
from vgg_deploy.net.open_net import open_net
from vgg_deploy.runtimes.ncnn import NcnnRuntime
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.sealed_json import sealed

PHOTOS = 4  # per split of the data sets here
IDENTITY = {
    "runtime": "torch",
    "precision": "fp32",
    "side": 48,
    "views": "dense",
    "mirrored": False,
}


def _make_images(folder: Path) -> tuple[Victim, ...]:
    photo = photos(1)[0]
    forms = {"jpg": {}, "png": {}, "gif": {}, "bmp": {}, "webp": {}}
    for suffix in forms:
        (folder / suffix).mkdir()
        photo.save(folder / suffix / f"0.{suffix}")
    cmyk = folder / "jpg" / "1.jpg"
    photo.convert("CMYK").save(cmyk, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", progressive=True)
    deep = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) * 20)
    deep.save(folder / "png" / "1.png")
    names = [*(f"{suffix}/0.{suffix}" for suffix in forms), "jpg/1.jpg", "png/1.png"]
    return tuple(Victim(name) for name in names)


def _read_images(folder: Path) -> object:
    data = open_dataset(folder, "val")
    data.content_sha256(1)
    data.fingerprint()
    for index in range(len(data)):
        path = data.path(index)
        image = read_image(path)
        assert image.mode == "RGB" and (image.height, image.width) == image_size(path)
        assert data.decode(index).shape == (3, image.height, image.width)
        assert len(data.read(index)) > 0
    return None


def _make_checkpoint(folder: Path) -> tuple[Victim, ...]:
    save_net(thin_net("A", width=1 / 64), folder / "A.pt")
    return (Victim("A.pt", "torch", exact=True),)


def _read_checkpoint(folder: Path) -> object:
    checkpoint = load_checkpoint(folder / "A.pt")
    net = build(checkpoint.spec, checkpoint.weights)
    assert all(bool(value.isfinite().all()) for value in net.state_dict().values())
    assert checkpoint.spec.test_sides and len(checkpoint.spec.classes) == len(checkpoint.spec.names)
    checkpoint.spec.to_json().encode()
    return checkpoint.spec, sum(float(value.double().sum()) for value in net.parameters())


def _make_foreign(folder: Path) -> tuple[Victim, ...]:
    state = thin_state()
    torch.save(state, folder / "a.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "a.safetensors")
    np.savez(folder / "a.npz", **{name: value.numpy() for name, value in state.items()})
    return (
        Victim("a.pth", "torch", exact=True),
        Victim("old.pth"),
        Victim("a.safetensors"),
        Victim("a.npz", exact=True),
    )


def _read_foreign(folder: Path, name: str) -> object:
    net = open_net(folder / name)
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())
    assert net.spec.classes and net.spec.crop % 32 == 0
    return net.spec, sum(float(value.double().sum()) for value in net.parameters())


def _make_onnx(folder: Path) -> tuple[Victim, ...]:
    small_onnx(folder)
    return (Victim("A.onnx"),)


def _read_onnx(folder: Path) -> object:
    scores = OnnxRuntime(folder / "A.onnx")(PIXELS)
    total = scores.posterior.sum(1)
    assert np.isnan(total).any() or np.allclose(total, 1, atol=1e-3)
    return None


def _make_ncnn(folder: Path) -> tuple[Victim, ...]:
    path = export_ncnn(small_onnx(folder), 1, lambda text: None).path
    stem = path.name.removesuffix(".param")
    return (
        Victim(path.name, "text", exact=True),
        Victim(f"{stem}.bin", exact=True),
        Victim(f"{stem}.json", "json", seal_json),
    )


def _read_ncnn(folder: Path) -> object:
    path = next(iter(sorted(folder.glob("*.ncnn.*")))).with_suffix(".param")
    scores = NcnnRuntime(find_ncnn(path))(PIXELS)
    return float(scores.score_map.sum())


def _make_manifests(folder: Path) -> tuple[Victim, ...]:
    path = small_onnx(folder)
    digest = {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_text(manifest_path(path), json.dumps(sealed(digest)))
    engine = folder / "A.engine"
    engine.write_bytes(b"an engine")
    profile = Profile(InputShape(1, 32, 32), InputShape(2, 64, 80), InputShape(4, 96, 96))
    names = {"image": "uint8"}
    manifest = EngineManifest(
        small_artifact(), "rtx", "1.0", ("sm80",), (profile,), names, names, {"conv1_1": "HALF"},
        (1000,), 1.5, sha256(engine), len(b"an engine"), "A.onnx", sha256(path),
    )  # fmt: skip
    write_text(manifest_path(engine).with_name("engine.json"), manifest.to_json())
    return (
        Victim("A.json", "json", seal_json),
        Victim("engine.json", "json", seal_json),
        Victim("A.engine", exact=True),
    )


def _read_manifests(folder: Path) -> object:
    check_manifest(folder / "A.onnx")
    (folder / "A.json").unlink(missing_ok=True)  # both have the same name
    if os.path.lexists(folder / "engine.json"):
        (folder / "engine.json").rename(folder / "A.json")
    manifest = check_engine(folder / "A.engine")
    manifest.to_json().encode()
    for shape in (InputShape(1, 32, 32), InputShape(4, 96, 96)):
        assert 0 <= manifest.nearest(shape) < len(manifest.profiles)
    assert all(isinstance(text, str) for text in manifest.targets)
    return None


def _make_calibration(folder: Path) -> tuple[Victim, ...]:
    counts = np.zeros(BINS, np.int64)
    counts[[0, 5, 900]] = 10_000, 50, 3
    ranges = {name: Range(9.0, 12.0, 16.0, counts) for name in ("conv1_1", "fc8")}
    calibration = Calibration("0" * 64, "1" * 64, "photos", 20, 48, ("a.jpg",), 19, 1, ranges)
    write_text(folder / "calibration.json", json.dumps(_document(calibration)))
    return (Victim("calibration.json", "json", seal_json),)


def _read_calibration(folder: Path) -> object:
    calibration = read_calibration(folder / "calibration.json")
    if calibration is None:
        return None
    assert calibration.images >= calibration.distinct and calibration.key
    for method in ("max", "percentile", "entropy"):
        kept = clip(calibration.ranges, method, PRECISIONS["int8"])
        for name, threshold in kept.items():
            assert 0 < threshold <= calibration.ranges[name].input_max < np.inf
    assert all(0 <= seen.output_max < np.inf for seen in calibration.ranges.values())
    json.dumps(_document(calibration))
    return None


def _posteriors(images: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    raw = rng.random((images, len(CLASSES))).astype(np.float32)
    return raw / raw.sum(1, keepdims=True)


def _make_cells(folder: Path) -> tuple[Victim, ...]:
    size = CellSize(6, len(CLASSES), "float32")
    cell = open_cell(folder, IDENTITY, size, 1)
    cell.write(np.arange(6), _posteriors(6), np.zeros(6, np.float32), 0.5)
    cell.save()
    (folder / ".lock").touch()
    name = cell.path.name
    json_name = cell.path.with_suffix(".json").name
    return Victim(name), Victim(json_name, "json"), Victim(".lock")


def _read_cells(folder: Path) -> object:
    with exclusive(folder):
        cell = open_cell(folder, IDENTITY, CellSize(6, len(CLASSES), "float32"), 1)
        assert np.array_equal(cell.posteriors[cell.finished], _posteriors(6)[cell.finished])
        assert cell.seconds >= 0 and cell.timed >= 0
        missing = np.flatnonzero(~cell.finished)
        cell.write(missing, _posteriors(6)[missing], np.zeros(len(missing), np.float32), 0.1)
        cell.save()
        assert np.array_equal(cell.posteriors, _posteriors(6))
    return None


def _tar(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, photo in enumerate(photos(PHOTOS)):
            content = io.BytesIO()
            photo.save(content, "JPEG")
            for name, data in ((f"{i}.jpg", content.getvalue()), (f"{i}.cls", b"%d" % (i % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _make_shards(folder: Path) -> tuple[Victim, ...]:
    _tar(folder / "train-000000.tar")
    _tar(folder / "val-000000.tar")
    index_shards(folder, None, {})
    return (
        Victim("shards.json", "json", seal_json),
        Victim("val.index", seal=seal_index),
        Victim("val-000000.tar", seal=seal_tar),
    )


def _read_shards(folder: Path) -> object:
    data = open_dataset(folder, "val")
    assert data.packed is not None
    assert ((data.labels >= 0) & (data.labels < len(data.classes))).all()
    data.fingerprint()
    for index in range(len(data)):
        content = data.read(index)
        assert zlib.crc32(content) == data.packed.crc32[index]
    for _, image in data.packed.stream(np.arange(len(data)), data.where):
        if isinstance(image, InputError):
            raise image
    data.content_sha256(1)
    return None


def _make_tars(folder: Path) -> tuple[Victim, ...]:
    _tar(folder / "train-000000.tar")
    _tar(folder / "val-000000.tar")
    return (Victim("val-000000.tar", seal=seal_tar),)


def _read_tars(folder: Path) -> object:
    index_shards(folder, None, {})
    return _read_shards(folder)


def _make_lists(folder: Path) -> tuple[Victim, ...]:
    wnids = [f"n0144076{i}" for i in range(4)]
    write_text(folder / "classes.txt", "".join(f"{wnid} name {wnid[-1]}, x\n" for wnid in wnids))
    write_text(folder / "names.txt", "cat\ndog\ngrade one\n")
    indexed = {str(i): [wnid, f"name {i}"] for i, wnid in enumerate(wnids)}
    write_text(folder / "class_index.json", json.dumps(indexed))
    flat = folder / "flat"
    flat.mkdir()
    for i, photo in enumerate(photos(PHOTOS)):
        photo.save(flat / f"{i}.jpg")
    write_text(flat / "val.txt", "".join(f"{i}.jpg {wnids[i]}\n" for i in range(PHOTOS)))
    write_text(flat / "synset_words.txt", "".join(f"{wnid} name\n" for wnid in wnids))
    rows = "".join(f"{i},{wnids[i]} 1 2 3 4 \n" for i in range(PHOTOS))
    write_text(folder / "LOC_val_solution.csv", f"ImageId,PredictionString\n{rows}")
    return (
        Victim("classes.txt", "text"),
        Victim("names.txt", "text"),
        Victim("class_index.json", "json"),
        Victim("flat/val.txt", "text"),
        Victim("flat/synset_words.txt", "text"),
        Victim("LOC_val_solution.csv", "text"),
    )


def _read_lists(folder: Path) -> object:
    for name in ("classes.txt", "names.txt", "class_index.json"):
        listed = read_class_list(folder / name)
        assert listed.ids and len(set(listed.ids)) == len(listed.ids) == len(listed.names)
        "".join((*listed.ids, *listed.names)).encode()
    flat = flat_images(folder / "flat", (folder / "flat", folder / "flat"))
    assert len(flat.labels) == len(flat.files) == PHOTOS
    assert all(0 <= label < len(flat.classes) for label in flat.labels)
    wnids = read_solution(folder / "LOC_val_solution.csv", [f"{i}.JPEG" for i in range(PHOTOS)])
    assert len(wnids) == PHOTOS
    return None


def _make_annotations(folder: Path) -> tuple[Victim, ...]:
    rows = ["image,class,xmin,ymin,xmax,ymax"]
    for name, photo in zip(CLASSES[:2], photos(2), strict=True):
        (folder / "data" / name).mkdir(parents=True)
        photo.save(folder / "data" / name / f"{name}1.jpg")
        rows += [f"{name}1.jpg,{name},1,2,9.5,10", f"{name}1,{name},3,3,20,20"]
        write_text(folder / "xml" / f"{name}1.xml", VOC_XML.format(*photo.size, name))
    write_text(folder / "boxes.csv", "\n".join(rows) + "\n")
    write_text(folder / "list.txt", f"{CLASSES[0]}1.jpg\nother\n")
    names = [f"xml/{name}1.xml" for name in CLASSES[:2]]
    return (*(Victim(name, "text") for name in (*names, "boxes.csv", "list.txt")),)


def _read_annotations(folder: Path) -> object:
    dataset = open_dataset(folder / "data", "val")
    for name in ("xml", "boxes.csv"):
        found = with_boxes(dataset, open_annotations(folder / name), "voc", 1, "stop").dataset
        assert found.boxes is not None and found.boxes.counts.all()
        for index, boxes in enumerate(found.boxes.lists()):
            height, width = found.size(index)
            assert (boxes >= 0).all() and (boxes <= (width, height, width, height)).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert 0 < len(without_listed(dataset, folder / "list.txt")) <= len(dataset)
    return None


VOC_XML = """<annotation><filename>x</filename><size><width>{}</width><height>{}</height></size>
<object><name>{}</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax>
<ymax>10.5</ymax></bndbox></object></annotation>"""
SMALL = TrainConfig(width=1 / 64, crop=32, side=(32, 32), batch=4, epochs=2, lr_drops=(1,))


def _make_run(folder: Path) -> tuple[Victim, ...]:
    sources = {
        "data": "photos", "recipe": "small", "weights": None, "weights_name": "", "net_a": None,
        "freeze": False, "images": None, "exif": "ignore",
    }  # fmt: skip
    stage = folder / "A-256"
    run = Run.create(stage, SMALL, sources)
    row = dict.fromkeys(COLUMNS, 1.0) | {"epoch": 1, "step": 2}
    step = dict.fromkeys(STEP_COLUMNS, 1.0) | {"step": 2}
    write_table(run.metrics, COLUMNS, [row])
    write_table(run.steps, STEP_COLUMNS, [step])
    net = thin_net("A", width=1 / 64)
    state = State(PHOTOS, step=2, errors=[50.0], rows=[row])
    save_checkpoint(run.best, Checkpoint(net.spec, net.state_dict()))
    save_checkpoint(run.last, Checkpoint(net.spec, net.state_dict(), asdict(state)))
    chain = {
        "chain": "paper", "arch": "A", "stage": None, "config": asdict(SMALL),
        "fine_tune": FineTune()._asdict(), "sources": sources,
        "stages": [{"name": "A-256", "arch": "A", "start": None}],
    }  # fmt: skip
    write_text(folder / "chain.json", json.dumps(sealed(chain)))
    return (
        Victim("chain.json", "json", seal_json),
        Victim("A-256/config.json", "json", seal_json),
        Victim("A-256/metrics.csv", "text"),
        Victim("A-256/steps.csv", "text"),
        Victim("A-256/last.pt", "torch"),
        Victim("A-256/best.pt", "torch"),
        Victim("A-256/.lock"),
    )


def _read_run(folder: Path) -> object:
    run = Run(folder / "A-256")
    with run.locked():
        config, sources = run.saved_config()
        replace(config)
        json.dumps([asdict(config), sources])
        assert run.epochs_done() >= 0
        run.is_unfinished()
        run.belongs_to_this_job()
        _, state = run.load_last()
        assert state.step >= 0 and state.images > 0 and len(state.tally) == 4
        rows_up_to(run.steps, state.step)
        run.reset_to(state)
    chain = saved_chain(folder).chain
    assert chain.stages() if callable(chain.stages) else chain.stages
    for stage in chain.chosen(None):
        chain.config(stage)
    for history in read_histories(folder):
        assert history.updates >= 0 and history.best.epoch >= 0
    return None


def _foreign(name: str) -> Callable[[Path], object]:
    return lambda folder: _read_foreign(folder, name)


def _only(make: Callable[[Path], tuple[Victim, ...]], name: str) -> Callable[[Path], tuple]:
    def made(folder: Path) -> tuple[Victim, ...]:
        victims = [victim for victim in make(folder) if victim.name == name]
        for path in folder.iterdir():
            if path.name != name:
                path.unlink()
        return tuple(victims)

    return made


READERS = {
    reader.name: reader
    for reader in (
        Reader("images", _make_images, _read_images),
        Reader("checkpoints", _make_checkpoint, _read_checkpoint),
        *(
            Reader(f"foreign {label}", _only(_make_foreign, name), _foreign(name))
            for label, name in (
                (".pth", "a.pth"),
                ("old .pth", "old.pth"),
                (".safetensors", "a.safetensors"),
                (".npz", "a.npz"),
            )
        ),
        Reader("ONNX", _make_onnx, _read_onnx),
        Reader("ncnn", _make_ncnn, _read_ncnn),
        Reader("manifests", _make_manifests, _read_manifests),
        Reader("calibration", _make_calibration, _read_calibration),
        Reader("cells", _make_cells, _read_cells),
        Reader("shards and indexes", _make_shards, _read_shards),
        Reader("tars", _make_tars, _read_tars),
        Reader("lists", _make_lists, _read_lists),
        Reader("annotations", _make_annotations, _read_annotations),
        Reader("run folders", _make_run, _read_run),
        *OWN,
        *DESCRIBED,
        *FOLDERS,
    )
}
