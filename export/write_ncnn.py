"""Writes ncnn's files from a float32 ONNX file, and compares them with ONNX Runtime.

They have the same weights, and get their final names only after the comparison.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from export.onnx.onnx_file import read_referring, span_of
from export.released_files import Exported
from export.verify.compared import Compared
from export.verify.feature_parity import judge_exact_features
from export.verify.parity import check_images, judge_exact
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.interface import USUAL
from vgg_deploy.exported.metadata import Artifact, check_manifest, manifest_path, weights_path
from vgg_deploy.exported.ncnn_files import SUFFIX, NcnnFiles, StoredArray, array_bytes, ncnn_graph
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.files import sha256, whole_files
from vgg_deploy.runtimes import NcnnRuntime, OnnxRuntime, runtime_package
from vgg_deploy.runtimes.contract import Outputs
from vgg_deploy.sealed_json import sealed

REFERENCE = "ONNX Runtime"
PACKAGES = ("torch", "onnx", "ncnn")  # whose versions are recorded, with ONNX Runtime's


class _OnnxWeights(NamedTuple):
    """The stored tensors of an ONNX file.

    Attributes:
        path: The file.
        values: The file that has their values: the same, or a separate one.
        tensors: By name.
    """

    path: Path
    values: Path
    tensors: dict[str, TensorProto]


def export_ncnn(source: Path, threads: int, log: Callable[[str], None]) -> Exported:
    """Write `<arch>.fp32.ncnn.param`, `.bin` and `.json` beside an ONNX file.

    Args:
        source: A float32 ONNX file of vgg-export.
        threads: Of ncnn and of ONNX Runtime.
        log: Called with a sentence for each step.

    Returns:
        The .param file. The size is that of .param and .bin together.

    Raises:
        InputError: If the file is not a float32 export of ours.
        CheckFailed: If ncnn's scores are not those of ONNX Runtime; no files are written then.
    """
    described = read_onnx_metadata(source)[0]
    if described.precision != "fp32":
        raise InputError(
            f"{source}: is {described.precision}, ncnn's files are made of float32; "
            "export --precision fp32"
        )
    if described.has_scores and described.has_boxes:
        raise InputError(
            f"{source}: gives the scores and boxes of two nets; ncnn's files are made of one, "
            "export each alone"
        )
    if described.interface != USUAL:
        raise InputError(
            f"{source}: takes whole images or one shape, or gives logits; ncnn's files are made "
            "of the usual graph, export it"
        )
    check_manifest(source)
    # ncnn's only input is float32
    form = "float32" if described.input == "uint8" else described.input
    artifact = replace(described, input=form)
    graph = ncnn_graph(artifact)
    path = source.with_suffix(SUFFIX)
    parts = [weights_path(path), path, manifest_path(path)]
    with whole_files(parts) as (weights, param, described_in):
        log(f"writing {path} and {weights_path(path).name}")
        param.write_text(graph.text, encoding="utf-8", newline="\n")
        _write_weights(source, graph.arrays, weights)
        log(f"checking {path.name} in ncnn against {REFERENCE}")
        compared = _compare(NcnnFiles(param, weights, artifact), source, threads)
        judge_exact(compared.scores, path, REFERENCE)
        judge_exact_features(compared.features, path, REFERENCE)
        size = param.stat().st_size + weights.stat().st_size
        exported = Exported(
            path,
            artifact,
            size,
            compared.scores,
            (),
            REFERENCE,
            features=tuple(compared.features),
        )
        files = {path.name: param, weights_path(path).name: weights}
        manifest = _manifest(artifact, compared, source, files)
        text = json.dumps(sealed(manifest), indent=2, ensure_ascii=False) + "\n"
        described_in.write_text(text, encoding="utf-8")
    return exported


def _compare(files: NcnnFiles, source: Path, threads: int) -> Compared:
    """Outputs for the check images in ncnn against ONNX Runtime's."""
    files.check()
    images = check_images(files.artifact.spec.crop)
    # one runtime after the other, because each has all weights in memory
    reference = _outputs(
        OnnxRuntime(source, threads=threads, optimisation="ENABLE_EXTENDED"), images
    )
    runtime = NcnnRuntime(files, threads=threads)
    compared = Compared()
    for index, batch in enumerate(images):
        found = runtime.run(batch, runtime.outputs)
        compared.add(index, found, reference[index], batch, REFERENCE)
    return compared


def _outputs(runtime: OnnxRuntime, batches: list[np.ndarray]) -> list[Outputs]:
    return [runtime.run(batch, runtime.outputs) for batch in batches]


def _write_weights(source: Path, arrays: list[StoredArray], path: Path) -> None:
    """Write the arrays of the ONNX file in ncnn's order, one at a time.

    Raises:
        InputError: If one is missing, or has another shape or type than its net.
    """
    weights = _read_weights(source)
    with open(path, "wb") as file:
        for array in arrays:
            file.write(array_bytes(array, _values(weights, array)))


def _read_weights(source: Path) -> _OnnxWeights:
    separate = data_files(source)
    data = separate[0] if separate else None
    try:
        model = read_referring(source, data)
    except (DecodeError, ValueError, CheckFailed) as error:
        raise InputError(
            f"{source}: not an ONNX file ({error}); export it with vgg-export --onnx"
        ) from None
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return _OnnxWeights(source, data or source, tensors)


def _values(weights: _OnnxWeights, array: StoredArray) -> np.ndarray:
    """The values of an array that ncnn needs."""
    source, tensor = weights.path, weights.tensors.get(array.name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT:
        raise InputError(
            f"{source}: has no float32 {array.name}, which its net has; export it again"
        )
    shape = tuple(tensor.dims)
    if len(array.shape) == 1:
        shape = (prod(shape),)  # the mean is stored as (1, 3, 1, 1)
    if shape != array.shape:
        raise InputError(
            f"{source}: {array.name} is {shape}, its net has {array.shape}; export it again"
        )
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    return np.memmap(weights.values, "<f4", "r", span_of(tensor).offset, tuple(tensor.dims))


def _manifest(
    artifact: Artifact, compared: Compared, source: Path, files: dict[str, Path]
) -> dict[str, object]:
    return {
        "files": {
            name: {"sha256": sha256(file), "bytes": file.stat().st_size}
            for name, file in files.items()
        },
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "onnx": source.name,
        "onnx_sha256": sha256(source),
        **json.loads(artifact.to_json()),
        "check": [asdict(comparison) for comparison in compared.scores],
        "check_features": [asdict(comparison) for comparison in compared.features],
        "versions": {name: version(name) for name in (*PACKAGES, runtime_package("onnxruntime"))},
    }
