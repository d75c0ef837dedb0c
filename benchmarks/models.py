"""The nets that benchmarks measure: random weights, which do not change any time, and their exports, kept between runs."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from vgg_deploy.exported.metadata import USUAL_MEAN, Artifact, manifest_path
from vgg_deploy.exported.ncnn_files import SUFFIX
from vgg_deploy.files import sha256
from vgg_deploy.machine import available_cores
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, Preprocessing

USUAL = Preprocessing(
    mean=tuple(255 * m for m in USUAL_MEAN)
)  # so that an input normalised as is usual is the very same picture


def random_weights(spec: NetSpec, folder: Path) -> Path:
    """A checkpoint with He's weights; the one that is there if it is of this net."""
    path = folder / f"{spec.arch}.pt"
    if not path.is_file() or load_checkpoint(path).spec != spec:
        net = VGG(spec)
        initialise(net, "he", torch.Generator().manual_seed(0))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))
    return path


def exports(source: Path, folder: Path, wanted: ExportOptions) -> list[Path]:
    """Exported files, a precision each; those that are there if they were made from the same weights in the same way."""
    arch, digest = load_checkpoint(source).spec.arch, sha256(source)
    paths = [folder / f"{arch}.{precision}.onnx" for precision in wanted.precisions]
    missing = tuple(
        precision
        for precision, path in zip(wanted.precisions, paths, strict=True)
        if not _made_so(path, digest, wanted)
    )
    if missing:
        export_onnx(
            source,
            folder,
            replace(wanted, precisions=missing),
            None,
            available_cores(),
            lambda text: print(text, flush=True),
        )
    return paths


def ncnn_export(onnx: Path) -> Path:
    """ncnn's files of a float32 ONNX file of ours; those that are there if they were made of the same weights."""
    path, digest = onnx.with_suffix(SUFFIX), artifact_of(onnx).source_sha256
    if (
        not path.is_file()
        or not manifest_path(path).is_file()
        or artifact_of(path).source_sha256 != digest
    ):
        export_ncnn(onnx, available_cores(), lambda text: print(text, flush=True))
    return path


def artifact_of(path: Path) -> Artifact:
    """What the manifest of an exported file says."""
    return Artifact.from_json(manifest_path(path).read_text(), str(path))


def _made_so(path: Path, digest: str, wanted: ExportOptions) -> bool:
    manifest = manifest_path(path)
    if not path.is_file() or not manifest.is_file():
        return False
    held = json.loads(manifest.read_text())
    if artifact_of(path).source_sha256 != digest or held["sha256"] != sha256(path):
        return False
    if "quantization" not in held:
        return True
    weights = "per-channel" if wanted.per_channel else "per-tensor"
    largest = PRECISIONS[held["precision"]].weights.largest
    quantization = held["quantization"]
    found = (quantization["method"], quantization["weights"], quantization.get("largest_weight"))
    return found == (wanted.method, weights, largest)
