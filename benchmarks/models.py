"""Makes the nets that benchmarks measure, and keeps them between runs.

Weights are random: they change no times.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch

from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.exported.ncnn_files import SUFFIX
from vgg_deploy.files import sha256
from vgg_deploy.machine import available_cores
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import USUAL_MEAN, NetSpec, Preprocessing

# an input that is normalised with the usual mean is the same image for this net
USUAL = Preprocessing(mean=tuple(255 * m for m in USUAL_MEAN))


def random_weights(spec: NetSpec, folder: Path) -> Path:
    """A checkpoint with weights drawn after He et al.; an existing one if it is of this net."""
    path = folder / f"{spec.arch}.pt"
    if not path.is_file() or load_checkpoint(path).spec != spec:
        net = VGG(spec)
        initialise(net, "he", torch.Generator().manual_seed(0))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))
    return path


def exports(source: Path, folder: Path, options: ExportOptions) -> list[Path]:
    """Exported ONNX files; existing ones if they were made from the same weights and options.

    Args:
        source: A checkpoint.
        folder: Where the files are.
        options: Of the export.

    Returns:
        One path per precision, in the order of the options.
    """
    arch, digest = load_checkpoint(source).spec.arch, sha256(source)
    paths = [folder / f"{arch}.{precision}.onnx" for precision in options.precisions]
    missing = tuple(
        precision
        for precision, path in zip(options.precisions, paths, strict=True)
        if not _is_current(path, digest, options)
    )
    if missing:
        export_onnx(
            source,
            folder,
            replace(options, precisions=missing),
            None,
            available_cores(),
            _print_step,
        )
    return paths


def ncnn_export(onnx: Path) -> Path:
    """Ncnn's files of a float32 ONNX file of ours; existing ones if they have the same weights."""
    path, digest = onnx.with_suffix(SUFFIX), artifact_of(onnx).source_sha256
    if (
        not path.is_file()
        or not manifest_path(path).is_file()
        or artifact_of(path).source_sha256 != digest
    ):
        export_ncnn(onnx, available_cores(), _print_step)
    return path


def _print_step(text: str) -> None:
    print(text, flush=True)


def artifact_of(path: Path) -> Artifact:
    """The description of an exported file in its manifest."""
    return Artifact.from_json(manifest_path(path).read_text(), str(path))


def _is_current(path: Path, digest: str, options: ExportOptions) -> bool:
    manifest = manifest_path(path)
    if not path.is_file() or not manifest.is_file():
        return False
    stored = json.loads(manifest.read_text())
    if artifact_of(path).source_sha256 != digest or stored["sha256"] != sha256(path):
        return False
    if "quantization" not in stored:
        return True
    weights = "per-channel" if options.per_channel else "per-tensor"
    largest = PRECISIONS[stored["precision"]].weights.largest
    quantization = stored["quantization"]
    used = (quantization["method"], quantization["weights"], quantization.get("largest_weight"))
    return used == (options.method, weights, largest)
