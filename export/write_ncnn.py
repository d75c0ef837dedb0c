"""ncnn's files from a float32 ONNX file: the same weights, compared with ONNX Runtime before they get their names."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from export.onnx.onnx_file import place, read_referring
from export.release import Exported
from export.verify.parity import check_images, compare, judge_exact
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import check_manifest, manifest_path
from vgg_deploy.exported.ncnn_files import (
    SUFFIX,
    NcnnFiles,
    NcnnGraph,
    array_bytes,
    ncnn_graph,
    weights_path,
)
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.runtimes import NcnnRuntime, OnnxRuntime, runtime_package

REFERENCE = "ONNX Runtime"


def export_ncnn(source: Path, threads: int, on_step: Callable[[str], None]) -> Exported:
    """Write `<arch>.fp32.ncnn.param`, `.bin` and `.json` beside an ONNX file; its size is that of both files.

    Raises: InputError for a file that is no float32 export of ours; CheckFailed if ncnn's scores are not those of ONNX Runtime,
        and then leaves no such files.
    """
    described = read_onnx_metadata(source)[0]
    if described.precision != "fp32":
        raise InputError(
            f"{source}: is {described.precision}, ncnn's files are made of float32; export --precision fp32"
        )
    check_manifest(source)
    # ncnn's only input is float32
    artifact = replace(
        described, input="float32" if described.input == "uint8" else described.input
    )
    graph = ncnn_graph(artifact.spec, artifact.input)
    path = source.with_suffix(SUFFIX)
    with whole_file(path) as param, whole_file(weights_path(path)) as weights:
        on_step(f"writing {path} and {weights_path(path).name}")
        param.write_text(graph.text, encoding="utf-8", newline="\n")
        _write_weights(source, graph, weights)
        files = NcnnFiles(param, weights, artifact)
        files.check()
        on_step(f"checking {path.name} in ncnn against {REFERENCE}")
        pictures = check_images(artifact.spec.crop)
        wanted = list(
            map(OnnxRuntime(source, threads=threads, optimisation="ENABLE_EXTENDED"), pictures)
        )
        comparisons = compare(
            list(map(NcnnRuntime(files, threads=threads), pictures)), wanted, pictures, REFERENCE
        )
        judge_exact(comparisons, path, REFERENCE)
        exported = Exported(
            path,
            artifact,
            param.stat().st_size + weights.stat().st_size,
            comparisons,
            (),
            REFERENCE,
        )
        manifest_path(path).unlink(
            missing_ok=True
        )  # of older files; it must not speak for the new ones
        manifest = _manifest(exported, source, {path.name: param, weights_path(path).name: weights})
    write_text(manifest_path(path), json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return exported


def _write_weights(source: Path, graph: NcnnGraph, path: Path) -> None:
    """The arrays of the ONNX file in ncnn's order, one at a time.

    Raises: InputError if one is missing, or has another shape or type than the net that the file says it is.
    """
    outside = data_files(source)
    data = outside[0] if outside else None
    try:
        held = {tensor.name: tensor for tensor in read_referring(source, data).graph.initializer}
    except (DecodeError, ValueError, CheckFailed) as error:
        raise InputError(
            f"{source}: not an ONNX file ({error}); export it with vgg-export --onnx"
        ) from None
    with open(path, "wb") as file:
        for wanted in graph.arrays:
            tensor = held.get(wanted.name)
            if tensor is None or tensor.data_type != TensorProto.FLOAT:
                raise InputError(
                    f"{source}: holds no float32 {wanted.name}, which its net has; export it again"
                )
            shape = (
                (prod(tensor.dims),) if len(wanted.shape) == 1 else tuple(tensor.dims)
            )  # the mean is stored as (1, 3, 1, 1)
            if shape != wanted.shape:
                raise InputError(
                    f"{source}: {wanted.name} is {shape}, its net has {wanted.shape}; export it again"
                )
            file.write(array_bytes(wanted, _array(tensor, data or source)))


def _array(tensor: TensorProto, file: Path) -> np.ndarray:
    """The values of a float32 tensor, which may be a place in a file."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    return np.memmap(file, "<f4", "r", place(tensor)[0], tuple(tensor.dims))


def _manifest(exported: Exported, source: Path, files: dict[str, Path]) -> dict:
    return {
        "files": {
            name: {"sha256": sha256(file), "bytes": file.stat().st_size}
            for name, file in files.items()
        },
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "onnx": source.name,
        "onnx_sha256": sha256(source),
        **json.loads(exported.artifact.to_json()),
        "check": [asdict(c) for c in exported.comparisons],
        "versions": {
            name: version(name)
            for name in ("torch", "onnx", runtime_package("onnxruntime"), "ncnn")
        },
    }
