"""Writes a model repository for Triton Inference Server.

Each model has a folder with its configuration, its labels and its file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.tensorrt.triton_folder import (
    CONFIG,
    LABELS,
    VERSION,
    put_model,
    source_parameter,
    what_it_replaces,
)
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import INPUTS, OUTPUT, DistanceArtifact
from vgg_deploy.exported.interface import WHOLE
from vgg_deploy.exported.metadata import Artifact, check_manifest
from vgg_deploy.exported.onnx_metadata import read_description
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.exported.trt_manifest import check_engine
from vgg_deploy.net.outputs import output_shape

QUEUE_DELAY_US = 2000  # how long a request may wait to be batched with others of its size
PIXEL_TYPES = {
    "uint8": "TYPE_UINT8",
    "float32": "TYPE_FP32",
    "normalised": "TYPE_FP32",
    WHOLE: "TYPE_UINT8",
}


@dataclass(frozen=True)
class TritonModel:
    """One model of a repository.

    Attributes:
        artifact: Description of its file.
        stem: Name of the ONNX file without its suffix, such as D.fp16.
        max_batch: Largest batch.
        profiles: Number of optimization profiles of an engine; 0 for an ONNX file.
    """

    artifact: Artifact | DistanceArtifact
    stem: str
    max_batch: int
    profiles: int = 0

    @property
    def name(self) -> str:
        """Name of its folder, such as D_fp16_onnx or dogs_normalised_fp16_plan."""
        kind = "plan" if self.profiles else "onnx"
        return re.sub(r"[^A-Za-z0-9_]", "_", f"{self.stem}_{kind}")

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
            stem = Path(manifest.onnx).stem
            model = TritonModel(manifest.artifact, stem, largest, len(manifest.profiles))
        else:
            check_manifest(file)
            described = read_description(file)[0]
            _refuse_fixed(file, described)
            model = TritonModel(described, file.stem, max_batch)
        _write_model(folder / model.name, file, model, log)
    log(f"Triton model repository: {folder}")


def _refuse_fixed(file: Path, artifact: Artifact | DistanceArtifact) -> None:
    """Refuse a graph of one batch size: the server chooses the batches.

    Raises:
        InputError: If it is one.
    """
    if isinstance(artifact, Artifact) and artifact.interface.shape is not None:
        raise InputError(
            f"{file}: takes batches of {artifact.interface.text()} only, and Triton forms batches "
            "by itself; export a file without --fixed-shape for it"
        )


def configuration(model: TritonModel) -> str:
    """The text of config.pbtxt."""
    pixels = PIXEL_TYPES[model.artifact.input]
    smaller = {size for size in (4, 8, 16, 32) if size < model.max_batch}
    batches = ", ".join(map(str, sorted(smaller | {model.max_batch})))
    instances = ""
    if model.profiles:
        chosen = ", ".join(f'"{i}"' for i in range(model.profiles))
        instances = f"instance_group [ {{ count: 1, kind: KIND_GPU, profile: [ {chosen} ] }} ]\n"
    dims = "-1, -1, 3" if model.artifact.input == WHOLE else "3, -1, -1"
    inputs = ",\n".join(_input(name, pixels, dims) for name in _inputs(model.artifact))
    outputs = ",\n".join(_outputs(model.artifact))
    batching = (
        f"preferred_batch_size: [ {batches} ], max_queue_delay_microseconds: {QUEUE_DELAY_US}"
    )
    return f"""name: "{model.name}"
platform: "{model.platform}"
max_batch_size: {model.max_batch}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{ {batching} }}
{instances}{source_parameter(model.artifact.source_sha256)}"""


def _inputs(artifact: Artifact | DistanceArtifact) -> tuple[str, ...]:
    return INPUTS if isinstance(artifact, DistanceArtifact) else ("image",)


def _input(name: str, pixels: str, dims: str) -> str:
    """The entry of one input; its batch dimension is not named."""
    return f'  {{ name: "{name}", data_type: {pixels}, dims: [ {dims} ] }}'


def _outputs(artifact: Artifact | DistanceArtifact) -> list[str]:
    """The entries of all outputs. A distance is one number per pair, which Triton calls [1]."""
    if isinstance(artifact, DistanceArtifact):
        form = "dims: [ 1 ], reshape: { shape: [ ] }"
        return [f'  {{ name: "{OUTPUT}", data_type: TYPE_FP32, {form} }}']
    return [_output(name, artifact) for name in artifact.outputs]


def _output(name: str, artifact: Artifact) -> str:
    """The entry of one output; its batch dimension is not named."""
    spec, interface = artifact.spec, artifact.interface
    channels = output_shape(spec, name, (1, 3, spec.crop, spec.crop))[1]
    if name == "posterior":
        form = f'dims: [ {channels} ], label_filename: "labels.txt"'
    else:
        form = f"dims: [ {channels}, -1, -1 ]"
    return f'  {{ name: "{interface.graph_name(name)}", data_type: TYPE_FP32, {form} }}'


def _write_model(folder: Path, file: Path, model: TritonModel, log: Callable[[str], None]) -> None:
    """Write one model's folder."""
    names = () if isinstance(model.artifact, DistanceArtifact) else model.artifact.spec.names
    labels = "".join(f"{_label(name)}\n" for name in names)
    replaced = what_it_replaces(folder, model.artifact.source_sha256, labels)
    if replaced:
        log(f"Warning: {replaced}; use one repository for each net, or a name of its own")
    copies = {f"{VERSION}/{model.file_name}": file}
    if file.suffix == ".onnx":
        copies.update({f"{VERSION}/{data.name}": data for data in data_files(file)})
    texts = {CONFIG: configuration(model)} | ({LABELS: labels} if labels else {})
    put_model(folder, texts, copies)


def _label(name: str) -> str:
    """A class name on one line, as Triton reads labels."""
    if not name.strip():
        raise InputError(
            "a class has an empty name, which Triton's labels.txt cannot represent; "
            "export with --classes"
        )
    return " ".join(name.split())
