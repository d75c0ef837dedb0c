"""Writes a model repository for Triton Inference Server.

Each model has a folder with its configuration, its labels and its file.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, check_manifest
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.exported.trt_manifest import check_engine
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.regular_files import is_regular

QUEUE_DELAY_US = 2000  # how long a request may wait to be batched with others of its size
PIXEL_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "normalised": "TYPE_FP32"}


@dataclass(frozen=True)
class TritonModel:
    """One model of a repository.

    Attributes:
        artifact: Description of its file.
        max_batch: Largest batch.
        profiles: Number of optimization profiles of an engine; 0 for an ONNX file.
    """

    artifact: Artifact
    max_batch: int
    profiles: int = 0

    @property
    def name(self) -> str:
        """Name of its folder, such as D_fp16_onnx."""
        kind = "plan" if self.profiles else "onnx"
        return f"{self.artifact.spec.arch}_{self.artifact.precision}_{kind}".replace("-", "_")

    @property
    def platform(self) -> str:
        """Triton's name of what runs the file."""
        return "tensorrt_plan" if self.profiles else "onnxruntime_onnx"

    @property
    def file_name(self) -> str:
        """Triton's name of the file."""
        return "model.plan" if self.profiles else "model.onnx"


def write_repository(
    folder: Path, files: list[Path], max_batch: int, log: Callable[[str], None]
) -> None:
    """Write `D_fp16_onnx/{config.pbtxt,labels.txt,1/model.onnx}`, and `..._plan` for an engine.

    Args:
        folder: The repository.
        files: ONNX files and engines.
        max_batch: Largest batch; an engine's own may be smaller.
        log: Called with a sentence for each warning.

    Raises:
        InputError: If a file is damaged, or the folder cannot be written.
    """
    for file in files:
        if file.suffix == ".engine":
            manifest = check_engine(file)
            if manifest.flavour != "tensorrt":
                log(
                    f"{file.name}: left out of {folder}, Triton runs engines of tensorrt only, "
                    f"not of {manifest.flavour}"
                )
                continue
            largest = min(max_batch, *(profile.max.batch for profile in manifest.profiles))
            model = TritonModel(manifest.artifact, largest, len(manifest.profiles))
        else:
            check_manifest(file)
            model = TritonModel(read_onnx_metadata(file)[0], max_batch)
        warning = _write_model(folder, file, model)
        if warning:
            log(f"Warning: {warning}")
    log(f"Triton model repository: {folder}")


def configuration(model: TritonModel) -> str:
    """The text of config.pbtxt."""
    classes = len(model.artifact.spec.classes)
    pixels = PIXEL_TYPES[model.artifact.input]
    smaller = {size for size in (4, 8, 16, 32) if size < model.max_batch}
    batches = ", ".join(map(str, sorted(smaller | {model.max_batch})))
    instances = ""
    if model.profiles:
        chosen = ", ".join(f'"{i}"' for i in range(model.profiles))
        instances = f"instance_group [ {{ count: 1, kind: KIND_GPU, profile: [ {chosen} ] }} ]\n"
    posterior = f'data_type: TYPE_FP32, dims: [ {classes} ], label_filename: "labels.txt"'
    batching = (
        f"preferred_batch_size: [ {batches} ], max_queue_delay_microseconds: {QUEUE_DELAY_US}"
    )
    return f"""name: "{model.name}"
platform: "{model.platform}"
max_batch_size: {model.max_batch}
input [
  {{ name: "image", data_type: {pixels}, dims: [ 3, -1, -1 ] }}
]
output [
  {{ name: "posterior", {posterior} }},
  {{ name: "score_map", data_type: TYPE_FP32, dims: [ {classes}, -1, -1 ] }}
]
dynamic_batching {{ {batching} }}
{instances}"""


def _write_model(folder: Path, file: Path, model: TritonModel) -> str:
    """Write one model's folder.

    Returns:
        A warning if the folder had a model of other classes, else nothing.
    """
    model_folder = folder / model.name
    labels = "".join(f"{_label(name)}\n" for name in model.artifact.spec.names)
    labels_file = model_folder / "labels.txt"
    has_other_labels = is_regular(labels_file) and labels_file.read_bytes() != labels.encode()
    write_text(model_folder / "config.pbtxt", configuration(model))
    write_text(labels_file, labels)
    copies = {file: model.file_name}
    if file.suffix == ".onnx":
        copies.update({data: data.name for data in data_files(file)})
    for source, name in copies.items():
        with whole_file(model_folder / "1" / name) as partial:
            # a hard link would share permissions and edits with the released file, and onnx refuses
            # external data with one
            shutil.copyfile(source, partial)
    if has_other_labels:
        return (
            f"{model_folder}: had a model with other labels, which {file} has replaced; "
            "use one repository for each net"
        )
    return ""


def _label(name: str) -> str:
    """A class name on one line, as Triton reads labels."""
    if not name.strip():
        raise InputError(
            "a class has an empty name, which Triton's labels.txt cannot represent; "
            "export with --classes"
        )
    return " ".join(name.split())
