"""Readers of what stands beside images and weights, or inside a model, and describes them."""

import io
import json
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import scipy.io
import torch

from bench.accuracy.cell_identity import file_name, full_identity
from bench.models.model import ModelOptions, open_models
from tests.fuzz.reader import Reader, Victim, seal_json
from tests.fuzz.small_models import PIXELS, photos, small_onnx, thin_state
from vgg_deploy.data.devkit import read_devkit
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.parquet import open_parquet, parquet_files
from vgg_deploy.exported.metadata import KEY
from vgg_deploy.files import sha256
from vgg_deploy.net.open_net import open_net
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.sealed_json import sealed

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
METADATA = "metadata.json"  # stands for the metadata of an ONNX file


def _make_timm(folder: Path) -> tuple[Victim, ...]:
    state = thin_state()
    torch.save(state, folder / "a.pth")
    count = len(state["classifier.6.bias"])
    described = {
        "architecture": "vgg11",
        "num_classes": count,
        "label_names": [f"c{i}" for i in range(count)],
        "label_descriptions": {"c0": "cat, house cat"},
        "pretrained_cfg": {"tag": "x", "mean": [0.4, 0.5, 0.4], "std": [0.2, 0.2, 0.3]},
    }
    (folder / "config.json").write_text(json.dumps(described))
    return (Victim("config.json", "json"),)


def _read_timm(folder: Path) -> object:
    net = open_net(folder / "a.pth")
    net.spec.to_json().encode()
    assert all(bool(value.isfinite().all()) for value in net.state_dict().values())
    return None


def _make_metadata(folder: Path) -> tuple[Victim, ...]:
    model = onnx.load(small_onnx(folder))
    (found,) = (prop.value for prop in model.metadata_props if prop.key == KEY)
    (folder / METADATA).write_text(found)
    return (Victim(METADATA, "json"),)


def _read_metadata(folder: Path) -> object:
    given = folder / METADATA
    if not given.is_file() or given.stat().st_size > 10**6:
        return None  # a protobuf holds no such text
    model = onnx.load(folder / "A.onnx")
    for prop in model.metadata_props:
        if prop.key == KEY:
            prop.value = given.read_text(encoding="utf-8", errors="replace")
    onnx.save(model, folder / "A.onnx")
    (opened,) = open_models([folder / "A.onnx"], ModelOptions())
    cell = {**opened.identity, "side": 64, "views": "dense", "mirrored": False}
    assert len(file_name(full_identity(cell, 3, 3, "float32")).encode()) < 255
    assert opened.origin
    return None


def _make_separate(folder: Path) -> tuple[Victim, ...]:
    path, data = small_onnx(folder), folder / "A.onnx.data"
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location=data.name, size_threshold=64
    )
    described = {"sha256": sha256(path), "bytes": path.stat().st_size}
    described["data"] = {"sha256": sha256(data), "bytes": data.stat().st_size}
    (folder / "A.json").write_text(json.dumps(sealed(described)))
    return (
        Victim("A.onnx", exact=True),
        Victim("A.onnx.data", exact=True),
        Victim("A.json", "json", seal_json),
    )


def _read_separate(folder: Path) -> object:
    return float(OnnxRuntime(folder / "A.onnx")(PIXELS).score_map.sum())


def _make_devkit(folder: Path) -> tuple[Victim, ...]:
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    synsets = np.zeros(2, [(field, object) for field in fields])
    synsets[0] = (1.0, "n01440764", "tench, x", 0.0)
    synsets[1] = (2.0, "n01440765", "y", 0.0)
    for name, is_compressed in (("plain.mat", False), ("compressed.mat", True)):
        scipy.io.savemat(folder / name, {"synsets": synsets}, do_compression=is_compressed)
    _pack(folder / "plain.mat")
    return Victim("plain.mat"), Victim("compressed.mat"), Victim(DEVKIT)


def _pack(meta: Path) -> Path:
    """Write the archive around a meta.mat."""
    path = meta.with_name(DEVKIT)
    content = {"meta.mat": meta.read_bytes(), TRUTH: b"1\n2\n"}
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(f"devkit/data/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _read_devkit(folder: Path) -> object:
    read_devkit(folder / DEVKIT)
    for name in ("plain.mat", "compressed.mat"):
        meta = folder / name
        # what is no such file cannot be in an archive
        if meta.is_file() and 0 < meta.stat().st_size < 10**6:
            (folder / DEVKIT).unlink(missing_ok=True)
            classes = read_devkit(_pack(meta)).classes
            assert classes.ids and len(set(classes.ids)) == len(classes.ids)
    return None


def _make_reassessed(folder: Path) -> tuple[Victim, ...]:
    (folder / "val").mkdir()
    photos(1)[0].save(folder / "val" / "ILSVRC2012_val_00000001.JPEG")
    (folder / "real.json").write_text(json.dumps([[1, 2], *([[]] * 49_999)]))
    return (Victim("real.json", "json"),)


def _read_reassessed(folder: Path) -> object:
    data = open_dataset(folder / "real.json", "val")
    assert len(data) == 1 and 0 <= data.labels[0] < 1000
    return None


LABELS = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
PARQUET = "train-00000-of-00001.parquet"


def write_parquet(path: Path, metadata: str) -> None:
    """Write two images, and a description of their labels as Hugging Face's hub has it."""
    import pyarrow
    from pyarrow.parquet import write_table

    content = io.BytesIO()
    photos(1)[0].save(content, "JPEG")
    image = [{"bytes": content.getvalue(), "path": f"{i}.jpg"} for i in range(2)]
    table = pyarrow.table({"image": image, "label": [0, 1]})
    write_table(table.replace_schema_metadata({"huggingface": metadata}), path)


def _make_parquet(folder: Path) -> tuple[Victim, ...]:
    write_parquet(folder / PARQUET, json.dumps(LABELS))
    return (Victim(PARQUET),)


def _read_parquet(folder: Path) -> object:
    scratch = folder / "scratch"
    scratch.mkdir()
    for data in open_parquet(parquet_files(folder), scratch).values():
        assert ((data.labels >= 0) & (data.labels < len(data.classes))).all()
        "".join((*data.classes, *data.names)).encode()
        for index in range(len(data)):
            assert data.read(index)
    return None


DESCRIBED = (
    *([Reader("parquet", _make_parquet, _read_parquet)] if find_spec("pyarrow") else []),
    Reader("timm's config", _make_timm, _read_timm),
    Reader("ONNX metadata", _make_metadata, _read_metadata),
    Reader("ONNX with separate weights", _make_separate, _read_separate),
    Reader("devkit", _make_devkit, _read_devkit),
    Reader("reassessed labels", _make_reassessed, _read_reassessed),
)
