"""Writes what an ONNX file states about itself: for this program, for others, and for people.

Other programs read class names where Ultralytics writes them, in the entry `names`, as the text of
a Python dict. The preprocessing is JSON with plain keys.
"""

import json
from collections.abc import Sequence

import onnx
from onnx import helper

from vgg_deploy import __version__
from vgg_deploy.exported.interface import LOGITS, WHOLE
from vgg_deploy.exported.metadata import INPUT_FORMS, KEPT, KEY, Artifact
from vgg_deploy.net.outputs import BOXES, SCORES
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD

PRODUCER = {"producer_name": "vgg-deploy", "producer_version": __version__}
NAMES, PREPROCESSING = "names", "preprocessing"  # entries for other programs
WHOLE_INPUT = "0-255 uint8; rescaling and mean subtraction inside the graph"


def describe(model: onnx.ModelProto, artifact: Artifact, kept: Sequence[str]) -> None:
    """Write producer, text and metadata of a model; older ones are replaced.

    Args:
        model: The graph.
        artifact: Its description.
        kept: Convolutions of another type than the precision's.
    """
    model.producer_name = PRODUCER["producer_name"]
    model.producer_version = PRODUCER["producer_version"]
    model.doc_string = in_words(artifact)
    entries = {KEY: artifact.to_json(), KEPT: ",".join(kept)}
    if artifact.has_scores:
        entries[NAMES] = str(dict(enumerate(artifact.spec.names)))
    entries[PREPROCESSING] = json.dumps(preprocessing(artifact))
    helper.set_model_props(model, entries)


def preprocessing(artifact: Artifact) -> dict[str, object]:
    """What a caller does to an image before the graph, with plain keys."""
    spec, whole = artifact.spec, artifact.input == WHOLE
    rescale: dict[str, object] = {
        "shorter_side": artifact.interface.side or spec.test_side,
        "filter": spec.preprocessing.filter,
        "antialias": True,
        "longer_side_rounding": "half up",
        "done_by": "graph" if whole else "caller",
    }
    if whole and artifact.interface.view == "centre":
        rescale["centre_crop"] = spec.crop
    found: dict[str, object] = {
        "layout": "NHWC" if whole else "NCHW",
        "dtype": "uint8" if artifact.input in ("uint8", WHOLE) else "float32",
        "channel_order": "RGB",
        "rescale": rescale,
        "crop": spec.crop,
    }
    if artifact.input == "normalised":
        return found | {
            "range": "(x / 255 - mean) / std",
            "mean": list(USUAL_MEAN),
            "std": list(USUAL_STD),
            "mean_and_std_by": "caller",
        }
    mean = list(spec.preprocessing.mean)
    return found | {"range": "0-255", "mean": mean, "std": [1, 1, 1], "mean_and_std_by": "graph"}


def in_words(artifact: Artifact) -> str:
    """What goes in and what comes out, in plain words."""
    spec, interface = artifact.spec, artifact.interface
    sentences = [f"VGG net {spec.arch}, {artifact.precision}."]
    if interface.side is not None:
        view = (
            f"scores the centre crop of {spec.crop} pixels"
            if interface.view == "centre"
            else "scores the whole image densely"
        )
        sentences.append(
            f"Input image: (N, H, W, 3) RGB, {WHOLE_INPUT}. "
            f"The graph rescales the shorter side to {interface.side} pixels and {view}."
        )
    else:
        sentences.append(f"Input image: (N, 3, H, W) RGB, {INPUT_FORMS[artifact.input]}.")
        sentences.append(f"Rescale photos so that the shorter side has {spec.test_side} pixels.")
    if interface.shape is not None:
        sentences.append(f"It takes the shape {interface.text()} and no other.")
    sentences += [_output_in_words(name, artifact) for name in artifact.outputs]
    return " ".join(sentences)


def _output_in_words(name: str, artifact: Artifact) -> str:
    spec, interface = artifact.spec, artifact.interface
    classes = len(spec.classes)
    if name == SCORES[0] and interface.logits:
        return f"Output {LOGITS}: (N, {classes}) scores; their softmax is the posterior."
    if name == SCORES[0]:
        return f"Output {name}: (N, {classes}) posterior of each class."
    if name == SCORES[1]:
        return f"Output {name}: (N, {classes}, h, w) scores at every position."
    if name == BOXES:
        return f"Output {name}: (N, numbers, h, w), four numbers for each box ({spec.box_form})."
    return f"Output {name}: (N, C, h, w), the output of layer {name}."
