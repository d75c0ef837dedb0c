"""A model repository for Triton Inference Server: a folder a model, its configuration, labels and file."""

import shutil
from collections.abc import Callable
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, check_manifest
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.exported.trt_manifest import check_engine
from vgg_deploy.files import whole_file, write_text

QUEUE_DELAY_US = 2000  # how long a request may wait for others of its size to be batched with
PIXEL_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "normalised": "TYPE_FP32"}


def write_repository(
    folder: Path, files: list[Path], max_batch: int, on_step: Callable[[str], None]
) -> None:
    """`folder`/D_fp16_onnx/{config.pbtxt,labels.txt,1/model.onnx} for every file, and `..._plan` for every engine.

    Raises: InputError for an engine that Triton does not run, or a folder that cannot be written.
    """
    for file in files:
        if file.suffix == ".engine":
            manifest = check_engine(file)
            if manifest.flavour != "tensorrt":
                on_step(
                    f"{file.name}: left out of {folder}, Triton runs engines of tensorrt only, not of {manifest.flavour}"
                )
                continue
            profiles, batch = (
                len(manifest.profiles),
                min(max_batch, *(p.max.batch for p in manifest.profiles)),
            )
            written = _write_model(
                folder, file, manifest.artifact, "tensorrt_plan", "model.plan", batch, profiles
            )
        else:
            check_manifest(file)
            written = _write_model(
                folder,
                file,
                read_onnx_metadata(file)[0],
                "onnxruntime_onnx",
                "model.onnx",
                max_batch,
                0,
            )
        if written:
            on_step(f"Warning: {written}")
    on_step(f"Triton model repository: {folder}")


def configuration(
    name: str, artifact: Artifact, platform: str, max_batch: int, profiles: int
) -> str:
    """config.pbtxt. Args: profiles, of an engine; 0 for an ONNX file."""
    classes = len(artifact.spec.classes)
    chosen = ", ".join(f'"{i}"' for i in range(profiles))
    instances = (
        f"instance_group [ {{ count: 1, kind: KIND_GPU, profile: [ {chosen} ] }} ]\n"
        if profiles
        else ""
    )
    batches = sorted({size for size in (4, 8, 16, 32) if size < max_batch} | {max_batch})
    return f"""name: "{name}"
platform: "{platform}"
max_batch_size: {max_batch}
input [
  {{ name: "image", data_type: {PIXEL_TYPES[artifact.input]}, dims: [ 3, -1, -1 ] }}
]
output [
  {{ name: "posterior", data_type: TYPE_FP32, dims: [ {classes} ], label_filename: "labels.txt" }},
  {{ name: "score_map", data_type: TYPE_FP32, dims: [ {classes}, -1, -1 ] }}
]
dynamic_batching {{ preferred_batch_size: [ {", ".join(map(str, batches))} ], max_queue_delay_microseconds: {QUEUE_DELAY_US} }}
{instances}"""


def _write_model(
    folder: Path,
    file: Path,
    artifact: Artifact,
    platform: str,
    model_file: str,
    max_batch: int,
    profiles: int,
) -> str:
    """One model's folder. Returns: a sentence if it held a model of other classes, else nothing."""
    name = f"{artifact.spec.arch}_{artifact.precision}_{'plan' if profiles else 'onnx'}".replace(
        "-", "_"
    )
    labels = "".join(f"{label}\n" for label in map(_one_line, artifact.spec.names))
    older = folder / name / "labels.txt"
    other = older.is_file() and older.read_bytes() != labels.encode()
    write_text(
        folder / name / "config.pbtxt", configuration(name, artifact, platform, max_batch, profiles)
    )
    write_text(older, labels)
    weights = data_files(file) if file.suffix == ".onnx" else []
    for source, target in ((file, model_file), *((data, data.name) for data in weights)):
        with whole_file(folder / name / "1" / target) as partial:
            # a hard link would share permissions and edits with the released file, and onnx refuses external data with one
            shutil.copyfile(source, partial)
    if other:
        return f"{folder / name}: held a model with other labels, which {file} has replaced; use one repository for each net"
    return ""


def _one_line(name: str) -> str:
    """Triton reads a label a line."""
    if not name.strip():
        raise InputError(
            "a class has an empty name, which Triton's labels.txt cannot hold; export with --classes"
        )
    return " ".join(name.split())
