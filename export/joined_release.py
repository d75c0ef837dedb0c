"""Exports a classifier and a localiser to files that give scores and boxes.

Each net is exported and checked alone first, in a folder that is removed at the end. Then the two
graphs are joined. The joined file gets its name if it gives, value by value, what the two give.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from export.file_names import BOTH, onnx_name, replaces
from export.onnx.describe import describe
from export.onnx.graph import Graph
from export.onnx.joined_graph import PREFIX, joined, read_graph
from export.onnx.onnx_file import beside, read_referring, write_onnx, write_with_data
from export.release import export_onnx
from export.released_files import Exported, PartlyExported
from export.settings.export_options import ExportOptions
from export.settings.precision import BF16, PRECISIONS, Precision
from export.verify.float32_twin import twin_outputs
from export.verify.onnx_checker import check_onnx
from export.verify.parity import check_images
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import Artifact, data_path, manifest_path
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.signatures import signature_path
from vgg_deploy.files import sha256, whole_files
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.open_net import is_own, open_localiser, refuse_without_scores
from vgg_deploy.net.outputs import BOXES, SCORES
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.partial_files import partial_folder
from vgg_deploy.runtimes.contract import Outputs
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.sealed_json import sealed

# Largest difference from the separate files, over the largest value: kernels may be fused otherwise
EXACT = 1e-4


def export_joined(
    classifier: str | Path | Located,
    localiser: str | Path | Located,
    folder: Path,
    options: ExportOptions,
    classes: ClassList | None,
    threads: int,
    log: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
    on_file: Callable[[list[Exported]], None] = lambda exported: None,
) -> list[Exported]:
    """Write a file that gives posterior, score map and boxes, for every precision.

    They are called `<name or arch>.scores-boxes.<precision>.onnx`.

    Args:
        classifier: As the source of `export_onnx`.
        localiser: A checkpoint of a localiser of the same classes and the same input.
        folder: Of the files.
        options: Which files to write.
        classes: As in `export_onnx`, of the classifier.
        threads: As in `export_onnx`.
        log: As in `export_onnx`.
        stated: As in `export_onnx`, of the classifier.
        on_file: As in `export_onnx`.

    Raises:
        InputError: If the input cannot be used.
        CheckFailed: If a net fails its checks, or a joined file differs from the two.
    """
    found, box_net = locate(classifier), locate(localiser)
    spec = open_localiser(box_net).spec
    if is_own(found.path):
        refuse_without_scores(load_checkpoint(found.path).spec, found.name)
    exported: list[Exported] = []
    folder.mkdir(parents=True, exist_ok=True)
    alone = replace(options, external_data=False, name=None)
    paths = [
        folder / onnx_name(options.name or spec.arch, options.form, name, BOTH)
        for name in options.precisions
    ]
    with partial_folder(paths[0]) as parts:
        log(f"the classifier alone, {found.name}")
        scores = _export_alone(found, parts / "classifier", alone, classes, threads, log, stated)
        _refuse_other_net(scores[0].artifact.spec, spec, found, box_net)
        log(f"the localiser alone, {box_net.name}")
        boxes = _export_alone(box_net, parts / "localiser", alone, None, threads, log)
        for path, one, other in zip(paths, scores, boxes, strict=True):
            precision = PRECISIONS[one.artifact.precision]
            exported.append(_join(path, one, other, precision, options, threads, log))
            on_file(exported)
    return exported


def _export_alone(
    source: Located,
    folder: Path,
    options: ExportOptions,
    classes: ClassList | None,
    threads: int,
    log: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
) -> list[Exported]:
    """Export one of the nets in all precisions.

    Raises:
        CheckFailed: If a file fails.
    """
    try:
        return export_onnx(source, folder, options, classes, threads, log, stated)
    except PartlyExported as error:
        reasons = "; ".join(failure.text() for failure in error.failures)
        raise CheckFailed(f"{source.name} alone: {reasons}; nothing was written") from None


def _refuse_other_net(
    classifier: NetSpec, localiser: NetSpec, source: Located, box_net: Located
) -> None:
    """Refuse two nets that do not take the same image, or number classes in another way."""
    for what, own, other in (
        ("other classes", classifier.classes, localiser.classes),
        ("another crop", classifier.crop, localiser.crop),
        ("another preprocessing", classifier.preprocessing, localiser.preprocessing),
    ):
        if own != other:
            raise InputError(
                f"{box_net.name}: has {what} than {source.name}; one file can give the scores and "
                "boxes of nets with the same classes and input"
            )


def _join(
    path: Path,
    scores: Exported,
    boxes: Exported,
    precision: Precision,
    options: ExportOptions,
    threads: int,
    log: Callable[[str], None],
) -> Exported:
    """Join two files that passed their checks."""
    of_boxes = boxes.artifact.spec
    artifact = replace(
        scores.artifact,
        spec=replace(scores.artifact.spec, boxes=of_boxes.boxes, box_form=of_boxes.box_form),
        outputs=(*SCORES, BOXES),
    )
    replaced = replaces(path, artifact, None)
    if replaced:
        log(f"Warning: {replaced} if the new file passes; --name gives it another name")
    log(f"writing {path}")
    graph, shared = joined(read_graph(scores.path), read_graph(boxes.path), artifact.outputs)
    _describe(graph, artifact, scores.path, boxes.path)
    files = [path, manifest_path(path)]
    if options.external_data:
        files.insert(0, data_path(path))
    obsolete = {data_path(path), signature_path(path)} - set(files)
    with whole_files(files, tuple(obsolete)) as partials:
        target, data = partials[-2], partials[0] if options.external_data else None
        if data:
            write_with_data(target, graph, data, data_path(path).name)
        else:
            write_onnx(target, graph)
        log(f"checking {path.name} against the two files that it is made of")
        largest = _compare(target, data, scores, boxes, precision, threads, path.name)
        size = sum(file.stat().st_size for file in (target, data) if file)
        result = Exported(
            path,
            artifact,
            size,
            scores.comparisons,
            _kept(graph, scores.path, boxes.path) if scores.kept else (),
            cost=scores.cost,
            features=boxes.features,
            feature_costs=boxes.feature_costs,
        )
        manifest = _manifest(result, target, data, scores, boxes, shared, largest)
        text = json.dumps(sealed(manifest), indent=2, ensure_ascii=False) + "\n"
        partials[-1].write_text(text, encoding="utf-8")
    return result


def _kept(graph: Graph, classifier: Path, localiser: Path) -> tuple[str, ...]:
    """Convolutions of another type than the precision's, by their names in the joined graph."""
    nodes = {node.name for node in graph.model.graph.node}
    own, other = read_onnx_metadata(classifier)[1], read_onnx_metadata(localiser)[1]
    names = (*own, *(PREFIX + name for name in other))
    return tuple(name for name in names if name in nodes)


def _describe(graph: Graph, artifact: Artifact, classifier: Path, localiser: Path) -> None:
    """Write the metadata of a joined graph."""
    describe(graph.model, artifact, _kept(graph, classifier, localiser))


def _compare(
    target: Path,
    data: Path | None,
    scores: Exported,
    boxes: Exported,
    precision: Precision,
    threads: int,
    name: str,
) -> dict[str, float]:
    """Compare a joined file with the two that it is made of, on the check images.

    Returns:
        By output, the largest difference over the largest value.

    Raises:
        CheckFailed: If an output differs by more than rounding.
    """
    model = read_referring(target, data)
    with beside(target, model, ".check.onnx") as file:
        check_onnx(file)
    images = check_images(scores.artifact.spec.crop)
    largest: dict[str, float] = {}
    expected = [
        a | b
        for a, b in zip(
            _outputs(scores.path, None, precision, images, threads),
            _outputs(boxes.path, None, precision, images, threads),
            strict=True,
        )
    ]
    for index, found in enumerate(_outputs(target, data, precision, images, threads)):
        for output, reference in expected[index].items():
            whole = float(np.abs(reference).max()) or 1.0
            difference = float(np.abs(found[output] - reference).max()) / whole
            largest[output] = max(largest.get(output, 0.0), difference)
            if not difference <= EXACT:
                raise CheckFailed(
                    f"{name}: its {output} differs from that of the separate file by "
                    f"{difference:.1e} of the largest value (allowed {EXACT:.0e})"
                )
    return largest


def _outputs(
    path: Path, data: Path | None, precision: Precision, images: list[np.ndarray], threads: int
) -> list[Outputs]:
    """The outputs of a file for the check images, by batch."""
    if precision.trunk == BF16:  # no CPU kernel runs it
        return twin_outputs(path, data, images, threads)
    model = read_referring(path, data)
    with beside(path, model, ".run.onnx") as file:
        runtime = OnnxRuntime(file, threads=threads)
        return [runtime.run(batch, runtime.outputs) for batch in images]


def _manifest(
    exported: Exported,
    target: Path,
    data: Path | None,
    scores: Exported,
    boxes: Exported,
    shared: list[str],
    largest: dict[str, float],
) -> dict[str, object]:
    """Describe a joined file: its own bytes, and the manifests of the two."""
    manifest: dict[str, object] = {
        "file": exported.path.name,
        "sha256": sha256(target),
        "bytes": target.stat().st_size,
        **json.loads(exported.artifact.to_json()),
        "localiser": boxes.artifact.source,
        "localiser_sha256": boxes.artifact.source_sha256,
        "computed_once": shared,
        "differences_from_separate_files": largest,
        "check": [asdict(comparison) for comparison in exported.comparisons],
        "check_features": [asdict(comparison) for comparison in exported.features],
    }
    if exported.rating:
        manifest["cost"] = exported.rating
    if exported.cost:
        manifest["held_out"] = exported.cost.figures()
    if exported.feature_costs:
        manifest["held_out_features"] = [asdict(cost) for cost in exported.feature_costs]
    if data:
        manifest["data"] = {
            "file": data_path(exported.path).name,
            "sha256": sha256(data),
            "bytes": data.stat().st_size,
        }
    for name, one in (("classifier_manifest", scores), ("localiser_manifest", boxes)):
        manifest[name] = json.loads(manifest_path(one.path).read_text(encoding="utf-8"))
    return manifest
