"""Shows the tables of vgg-export, and lists its files in export.json for other commands."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from export.tensorrt.build import BuiltEngine
from vgg_deploy.exported.trt_manifest import Profile
from vgg_deploy.printable import printable
from vgg_deploy.progress import results
from vgg_deploy.terminal_tables import Column, print_table

if TYPE_CHECKING:  # it needs PyTorch, engines do not
    from export.released_files import Exported, ExportedDistance

PROFILE_HEAD = "profile: least / tuned / largest, batch x height x width"
# Columns that a narrow terminal can spare, the last of them first
ENGINES_SPARE = ("targets", "build s", "activations MB")
FILES_SPARE = ("input", "RMS %", "largest difference")
SIZES_SPARE = ("largest score", "score map")


class Differences(TypedDict):
    """How a file differs from its reference.

    Those of a quantized file are on held-out calibration images, those of others on the built-in
    images. A quantized file has no largest score difference, one that gives no scores has none of
    them.
    """

    largest_score_difference: float | None
    score_error: float | None
    largest_posterior_difference: float | None
    top1_agreement: str | None


class FeatureRow(TypedDict):
    """How one layer of a file differs from its reference.

    Of a quantized file on held-out calibration images, of others on the built-in images.
    """

    layer: str
    largest_difference: float | None
    error: float
    least_cosine: float


def differences(exported: Exported) -> Differences:
    """How a file differs from its reference."""
    comparisons, cost = exported.comparisons, exported.cost
    if cost is not None:
        return {
            "largest_score_difference": None,
            "score_error": cost.score_error_pct / 100,
            "largest_posterior_difference": cost.largest_posterior_difference,
            "top1_agreement": f"{cost.agree}/{cost.images}",
        }
    if not comparisons:
        return {
            "largest_score_difference": None,
            "score_error": None,
            "largest_posterior_difference": None,
            "top1_agreement": None,
        }
    agree = sum(c.agree for c in comparisons)
    return {
        "largest_score_difference": max(c.score_difference for c in comparisons),
        "score_error": max(c.score_error for c in comparisons),
        "largest_posterior_difference": max(c.posterior_difference for c in comparisons),
        "top1_agreement": f"{agree}/{sum(c.batch for c in comparisons)}",
    }


def feature_rows(exported: Exported) -> list[FeatureRow]:
    """How the layers of a file differ from their reference, in running order."""
    if exported.feature_costs:
        return [
            {
                "layer": cost.layer,
                "largest_difference": None,
                "error": cost.error_pct / 100,
                "least_cosine": cost.least_cosine,
            }
            for cost in exported.feature_costs
        ]
    rows: list[FeatureRow] = []
    for layer in exported.artifact.maps:
        results = [r for r in exported.features if r.layer == layer]
        rows.append(
            {
                "layer": layer,
                "largest_difference": max(r.difference for r in results),
                "error": max(r.error for r in results),
                "least_cosine": min(r.cosine for r in results),
            }
        )
    return rows


def summary(exported: Exported) -> dict[str, object]:
    """One entry of export.json."""
    checked = [(c.height, c.width) for c in exported.comparisons]
    checked += [(c.height, c.width) for c in exported.features]
    row: dict[str, object] = {
        "file": exported.path.name,
        "arch": exported.artifact.spec.arch,
        "precision": exported.artifact.precision,
        "input": exported.artifact.input,
        "outputs": list(exported.artifact.outputs),
        "bytes": exported.size,
        **differences(exported),
        "sizes_checked": len(set(checked)),
        "kept": list(exported.kept),
    }
    if exported.artifact.maps:
        row["features"] = feature_rows(exported)
    if exported.rating:
        row["cost"] = exported.rating
    if exported.limit:
        row["limit"] = exported.limit.text()
    return row


def distance_summary(exported: ExportedDistance) -> dict[str, object]:
    """One entry of export.json."""
    artifact, distorted = exported.artifact, exported.distorted
    return {
        "file": exported.path.name,
        "arch": artifact.spec.arch,
        "precision": artifact.precision,
        "input": artifact.input,
        "distance": artifact.kind,
        "terms": [list(term) for term in artifact.terms],
        "bytes": exported.size,
        "reference": exported.reference,
        "largest_difference": max(c.difference for c in exported.comparisons),
        "sizes_checked": len({(c.height, c.width) for c in exported.comparisons}),
        "pairs": distorted.pairs,
        "spearman": distorted.spearman,
        "largest_error": distorted.largest_error,
        "error": distorted.error_pct / 100,
        "mean_distance": distorted.mean_distance,
        "kept": list(exported.kept),
        "cost": distorted.rating,
    }


def engine_summary(engine: BuiltEngine) -> dict[str, object]:
    """One entry of export.json."""
    m = engine.manifest
    return {
        "file": engine.path.name,
        "arch": m.artifact.spec.arch,
        "precision": m.artifact.precision,
        "input": m.artifact.input,
        "bytes": m.bytes,
        "onnx": m.onnx,
        "flavour": _flavour(engine),
        "targets": list(m.targets),
        "profiles": [profile_text(profile) for profile in m.profiles],
        "activation_bytes": list(m.activation_bytes),
        "build_seconds": m.build_seconds,
    }


def profile_text(profile: Profile) -> str:
    """Least, tuned and largest batch x height x width."""
    return " / ".join("x".join(map(str, shape)) for shape in profile)


def file_list(
    exported: list[Exported],
    sources: list[Path],
    engines: list[BuiltEngine],
    folder: Path,
    distances: Sequence[ExportedDistance] = (),
) -> str:
    """The text of export.json: the files that a command wrote, and those that it worked from.

    Args:
        exported: ONNX files and ncnn's files that were written.
        sources: ONNX files that engines and ncnn's files were made from.
        engines: That were built.
        folder: Of export.json; files are named by their path from there.
        distances: Distance files that were written.
    """
    written = {e.path for e in exported} | {e.path for e in distances}
    rows: list[dict[str, object]] = []
    for file in exported:
        rows.append({**summary(file), "file": os.path.relpath(file.path, folder)})
    for distance in distances:
        row = distance_summary(distance)
        rows.append({**row, "file": os.path.relpath(distance.path, folder)})
    for path in sources:
        if path not in written:
            rows.append({"file": os.path.relpath(path, folder)})
    for engine in engines:
        rows.append({**engine_summary(engine), "file": os.path.relpath(engine.path, folder)})
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def show_engines(engines: list[BuiltEngine]) -> None:
    """Print one line per profile; the first of an engine has the engine's own columns."""
    title = f"Engines, {_flavour(engines[0])}" if engines else "Engines"
    rows: list[list[str]] = []
    for engine in engines:
        m = engine.manifest
        own = [
            str(engine.path),
            f"{m.bytes / 1e6:.1f}",
            f"{m.build_seconds:.1f}",
            ", ".join(m.targets),
        ]
        for i, profile in enumerate(m.profiles):
            activations = (
                f"{m.activation_bytes[i] / 1e6:,.0f}" if i < len(m.activation_bytes) else ""
            )
            rows.append([*(own if i == 0 else [""] * len(own)), profile_text(profile), activations])
    heads = ("file", "MB", "build s", "targets", PROFILE_HEAD, "activations MB")
    print_table(title, columns_of(heads, rows, ("file", "targets", PROFILE_HEAD), ENGINES_SPARE))


def _flavour(engine: BuiltEngine) -> str:
    return f"{engine.manifest.flavour} {engine.manifest.version}"


def show(exported: list[Exported]) -> None:
    """Print every size that a float32 file was checked at, then one line per file.

    Args:
        exported: Files with one reference, at least one.
    """
    scored = [file for file in exported if file.artifact.has_scores]
    for file in scored:
        if file.artifact.precision == "fp32":
            _show_sizes(file)
    if scored:
        _show_scores(scored)
    featured = [file for file in exported if file.artifact.maps]
    if featured:
        _show_features(featured)
    for file in exported:
        if file.limit:
            results().print(printable(f"{file.path.name} {file.limit.text()}"))
    if any(file.rating for file in exported):
        results().print(
            "Files with a cost: differences on held-out calibration images; "
            "others: on the built-in images."
        )


def _title(exported: list[Exported]) -> str:
    return f"Exported, against {exported[0].reference} in float32"


def _show_scores(exported: list[Exported]) -> None:
    """One line per file."""
    heads = ["file", "MB", "input", "largest difference", "RMS %", "of posteriors", "top-1 agrees"]
    rows = [_cells(file) for file in exported]
    if any(file.cost for file in exported):
        heads += ["cost", "not quantized"]
        for row, file in zip(rows, exported, strict=True):
            row += [file.cost.rating if file.cost else "", ", ".join(file.kept)]
    words = ("file", "input", "not quantized")
    print_table(_title(exported), columns_of(heads, rows, words, FILES_SPARE))


def _show_features(exported: list[Exported]) -> None:
    """One line per file and layer; the first of a file has the file's own columns."""
    heads = ("file", "MB", "feature", "largest difference", "RMS %", "least cosine", "cost")
    rows = []
    for file in exported:
        ratings = {cost.layer: cost.rating for cost in file.feature_costs}
        own = [str(file.path), f"{file.size / 1e6:.1f}"]
        for i, row in enumerate(feature_rows(file)):
            largest = row["largest_difference"]
            rows.append(
                [
                    *(own if i == 0 else ["", ""]),
                    row["layer"],
                    "" if largest is None else f"{largest:.1e}",
                    f"{100 * row['error']:.2g}",
                    f"{row['least_cosine']:.6f}",
                    ratings.get(row["layer"], ""),
                ]
            )
    spare = ("least cosine", "largest difference")
    title = f"Features and boxes, against {exported[0].reference} in float32"
    print_table(title, columns_of(heads, rows, ("file", "feature", "cost"), spare))


def columns_of(
    heads: Sequence[str], rows: list[list[str]], words: Sequence[str], spared: Sequence[str]
) -> list[Column]:
    """Columns of rows; of those that a narrow terminal can spare, the last goes first."""
    return [
        Column(
            head,
            [row[i] for row in rows],
            head in words,
            spared.index(head) + 1 if head in spared else 0,
        )
        for i, head in enumerate(heads)
    ]


def _cells(exported: Exported) -> list[str]:
    found = differences(exported)
    largest = found["largest_score_difference"]
    error, posteriors = found["score_error"], found["largest_posterior_difference"]
    return [
        str(exported.path),
        f"{exported.size / 1e6:.1f}",
        exported.artifact.input,
        "" if largest is None else f"{largest:.1e}",
        "" if error is None else f"{100 * error:.2g}",
        "" if posteriors is None else f"{posteriors:.1e}",
        (found["top1_agreement"] or "").replace("/", " of "),
    ]


def _show_sizes(exported: Exported) -> None:
    heads = (
        *("image (H x W)", "batch", "score map", "largest score", "largest difference"),
        *("of posteriors", "top-1 agrees"),
    )
    rows = [
        [
            f"{c.height} x {c.width}",
            str(c.batch),
            f"{c.map[0]} x {c.map[1]}",
            f"{c.largest_score:.3g}",
            f"{c.score_difference:.1e}",
            f"{c.posterior_difference:.1e}",
            f"{c.agree} of {c.batch}",
        ]
        for c in exported.comparisons
    ]
    title = f"{exported.path.name} against {exported.reference}"
    print_table(title, columns_of(heads, rows, (), SIZES_SPARE))
