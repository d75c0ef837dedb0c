"""Writes photo models into a Triton repository: encoded image files in, posteriors out.

A photo model is a step of Triton's python backend in front of a net. It decodes and rescales with
the project's own code, and sends images of one size to the net as one batch.
"""

from collections.abc import Callable
from pathlib import Path

from export.settings.serving import ServingOptions
from export.tensorrt.served.copies import photo_sources
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
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.spec import NetSpec

TAKES = ("uint8", "float32")  # forms of a net's input that a photo model feeds
INSTANCES = 2  # one decodes while another waits for the net


def write_photo_models(
    folder: Path,
    artifact: Artifact | DistanceArtifact,
    net: str,
    max_batch: int,
    serving: ServingOptions,
    log: Callable[[str], None],
) -> None:
    """Write the photo models of one net.

    Args:
        folder: The repository.
        artifact: Description of the net's file.
        net: Name of the net's model in the repository.
        max_batch: Largest batch of the net.
        serving: Which of them are written.
        log: Called with a sentence for each warning.

    Raises:
        InputError: If the net takes another input than pixels of 0-255 or gives logits, or the
            folder cannot be written.
    """
    if not serving.photos:
        return
    if isinstance(artifact, DistanceArtifact) or not artifact.has_scores:
        log(f"{net}: gives no posterior, so no photo model is written for it")
        return
    if artifact.interface.logits:
        raise InputError(
            f"{net}: gives logits, and photo models answer with posteriors; export the net without "
            "logits"
        )
    if artifact.input not in TAKES:
        raise InputError(
            f"{net}: takes {artifact.input} input, and photo models feed {' or '.join(TAKES)}; "
            "export the net with one of these"
        )
    for view in serving.photos:
        target = folder / f"{net}_photos_{view}"
        labels = labels_of(artifact)
        replaced = what_it_replaces(target, artifact.source_sha256, labels)
        if replaced:
            log(f"Warning: {replaced}; use one repository for each net, or a name of its own")
        texts = {f"{VERSION}/{path}": text for path, text in photo_sources().items()}
        texts[CONFIG] = photo_configuration(target.name, artifact, net, max_batch, view, serving)
        texts[LABELS] = labels
        put_model(target, texts, {})


def photo_configuration(
    name: str,
    artifact: Artifact,
    net: str,
    max_batch: int,
    view: str,
    serving: ServingOptions,
) -> str:
    """The text of a photo model's config.pbtxt.

    Args:
        name: Of the photo model.
        artifact: Description of the net's file, which gives scores.
        net: Name of the net's model.
        max_batch: Largest batch.
        view: "crop" or "dense".
        serving: What is done with the EXIF rotation.
    """
    spec: NetSpec = artifact.spec
    rules = {
        "net": net,
        "side": str(spec.test_side),
        "crop": str(spec.crop if view == "crop" else 0),
        "filter": spec.preprocessing.filter,
        "exif": serving.exif,
        "pixels": artifact.input,
    }
    parameters = "".join(parameter(key, value) for key, value in rules.items())
    form = f'dims: [ {len(spec.classes)} ], label_filename: "{LABELS}"'
    return f"""name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [ {{ name: "photo", data_type: TYPE_STRING, dims: [ 1 ] }} ]
output [ {{ name: "posterior", data_type: TYPE_FP32, {form} }} ]
{batching(max_batch)}
instance_group [ {{ count: {INSTANCES}, kind: KIND_CPU }} ]
{parameters}{source_parameter(artifact.source_sha256)}"""


def labels_of(artifact: Artifact | DistanceArtifact) -> str:
    """The text of labels.txt, a class per line; empty for distances.

    Raises:
        InputError: If a class has an empty name.
    """
    names = () if isinstance(artifact, DistanceArtifact) else artifact.spec.names
    return "".join(f"{_label(name)}\n" for name in names)


def _label(name: str) -> str:
    """A class name on one line, as Triton reads labels."""
    if not name.strip():
        raise InputError(
            "a class has an empty name, which Triton's labels.txt cannot represent; "
            "export with --classes"
        )
    return " ".join(name.split())
