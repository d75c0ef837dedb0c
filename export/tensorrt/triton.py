"""Writes a model repository for Triton Inference Server.

Each model has a folder with its configuration, its labels and its file. Photo models, which take
encoded image files and ask a net, are added by option.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.settings.serving import ServingOptions
from export.tensorrt.served.copies import onnx_source
from export.tensorrt.triton_folder import (
    CONFIG,
    LABELS,
    VERSION,
    batching,
    parameter,
    put_model,
    source_parameter,
    what_it_replaces,
)
from export.tensorrt.triton_photos import labels_of, write_photo_models
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import INPUTS, OUTPUT, DistanceArtifact
from vgg_deploy.exported.interface import WHOLE
from vgg_deploy.exported.metadata import Artifact, check_manifest
from vgg_deploy.exported.onnx_metadata import read_description
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.exported.trt_manifest import check_engine
from vgg_deploy.net.outputs import output_shape

SERVING = ServingOptions()
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
        backend: What runs an ONNX file, one of BACKEND_NAMES.
    """

    artifact: Artifact | DistanceArtifact
    stem: str
    max_batch: int
    profiles: int = 0
    backend: str = "onnxruntime"

    @property
    def name(self) -> str:
        """Name of its folder, such as D_fp16_onnx or dogs_normalised_fp16_plan."""
        kind = "plan" if self.profiles else "onnx"
        return re.sub(r"[^A-Za-z0-9_]", "_", f"{self.stem}_{kind}")

    @property
    def runs_in_python(self) -> bool:
        """Whether a model.py runs the file."""
        return self.backend == "python" and not self.profiles

    @property
    def runner(self) -> str:
        """The line of config.pbtxt that names what runs the file."""
        if self.runs_in_python:
            return 'backend: "python"'
        return f'platform: "{"tensorrt_plan" if self.profiles else "onnxruntime_onnx"}"'

    @property
    def file_name(self) -> str:
        """Triton's name of the file."""
        return "model.plan" if self.profiles else "model.onnx"


def write_repository(
    folder: Path,
    files: list[Path],
    max_batch: int,
    log: Callable[[str], None],
    serving: ServingOptions = SERVING,
) -> None:
    """Write `D_fp16_onnx/{config.pbtxt,labels.txt,1/model.onnx}`, and `..._plan` for an engine.

    A photo model is written beside its net, `D_fp16_onnx_photos_crop`.

    Args:
        folder: The repository.
        files: ONNX files and engines.
        max_batch: Largest batch; an engine's own may be smaller.
        log: Called with a sentence for each warning.
        serving: What runs the nets, and which photo models are written.

    Raises:
        InputError: If a file is damaged, the folder cannot be written, or a photo model cannot
            feed its net.
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
            artifact = read_description(file)[0]
            _refuse_fixed(file, artifact)
            model = TritonModel(artifact, file.stem, max_batch, backend=serving.backend)
        _write_model(folder / model.name, file, model, log)
        write_photo_models(folder, model.artifact, model.name, model.max_batch, serving, log)
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
    instances = ""
    if model.runs_in_python:
        instances = (
            f"instance_group [ {{ count: 1, kind: KIND_CPU }} ]\n{parameter('threads', '0')}"
        )
    elif model.profiles:
        chosen = ", ".join(f'"{i}"' for i in range(model.profiles))
        instances = f"instance_group [ {{ count: 1, kind: KIND_GPU, profile: [ {chosen} ] }} ]\n"
    dims = "-1, -1, 3" if model.artifact.input == WHOLE else "3, -1, -1"
    inputs = ",\n".join(_input(name, pixels, dims) for name in _inputs(model.artifact))
    outputs = ",\n".join(_outputs(model))
    return f"""name: "{model.name}"
{model.runner}
max_batch_size: {model.max_batch}
input [
{inputs}
]
output [
{outputs}
]
{batching(model.max_batch)}
{instances}{source_parameter(model.artifact.source_sha256)}"""


def _inputs(artifact: Artifact | DistanceArtifact) -> tuple[str, ...]:
    return INPUTS if isinstance(artifact, DistanceArtifact) else ("image",)


def _input(name: str, pixels: str, dims: str) -> str:
    """The entry of one input; its batch dimension is not named."""
    return f'  {{ name: "{name}", data_type: {pixels}, dims: [ {dims} ] }}'


def _outputs(model: TritonModel) -> list[str]:
    """The entries of all outputs. A distance is one number per pair, which Triton calls [1]."""
    artifact = model.artifact
    if isinstance(artifact, DistanceArtifact):
        form = "dims: [ 1 ]" + ("" if model.runs_in_python else ", reshape: { shape: [ ] }")
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
    labels = labels_of(model.artifact)
    replaced = what_it_replaces(folder, model.artifact.source_sha256, labels)
    if replaced:
        log(f"Warning: {replaced}; use one repository for each net, or a name of its own")
    copies = {f"{VERSION}/{model.file_name}": file}
    if file.suffix == ".onnx":
        copies.update({f"{VERSION}/{data.name}": data for data in data_files(file)})
    texts = {CONFIG: configuration(model)} | ({LABELS: labels} if labels else {})
    if model.runs_in_python:
        texts[f"{VERSION}/model.py"] = onnx_source()
    put_model(folder, texts, copies)
