"""The nets that benchmarks measure: random weights, which do not change any time, and their exports, kept between runs."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from export.release import Wanted, export_onnx
from vgg_deploy.artifact import USUAL_MEAN, Artifact, manifest_path
from vgg_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.files import sha256
from vgg_deploy.machine import available_cores
from vgg_deploy.model import VGG, initialise
from vgg_deploy.spec import NetSpec, Preprocessing

USUAL = Preprocessing(mean=tuple(255 * m for m in USUAL_MEAN))  # so that an input normalised as is usual is the very same picture


def random_weights(spec: NetSpec, folder: Path) -> Path:
    """A checkpoint with He's weights; the one that is there if it is of this net."""
    path = folder / f"{spec.arch}.pt"
    if not path.is_file() or load_checkpoint(path).spec != spec:
        net = VGG(spec)
        initialise(net, "he", torch.Generator().manual_seed(0))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))
    return path


def exports(source: Path, folder: Path, wanted: Wanted) -> list[Path]:
    """Exported files, a precision each; those that are there if they were made from the same weights."""
    arch, digest = load_checkpoint(source).spec.arch, sha256(source)
    paths = [folder / f"{arch}.{precision}.onnx" for precision in wanted.precisions]
    missing = tuple(precision for precision, path in zip(wanted.precisions, paths, strict=True) if not _made_from(path, digest))
    if missing:
        export_onnx(source, folder, replace(wanted, precisions=missing), None, available_cores(), lambda text: print(text, flush=True))
    return paths


def _made_from(path: Path, digest: str) -> bool:
    manifest = manifest_path(path)
    if not path.is_file() or not manifest.is_file():
        return False
    text = manifest.read_text()
    return Artifact.from_json(text, str(manifest)).source_sha256 == digest and json.loads(text)["sha256"] == sha256(path)
