"""Shows the tables of vgg-export, and lists its files in export.json for other commands."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from rich.table import Table

from export.tensorrt.build import BuiltEngine
from vgg_deploy.exported.trt_manifest import Profile
from vgg_deploy.progress import results

if TYPE_CHECKING:  # it needs PyTorch, engines do not
    from export.released_files import Exported


class Differences(TypedDict):
    """How a file differs from its reference.

    Those of a quantized file are on held-out calibration images, those of others on the built-in
    images. A quantized file has no largest score difference.
    """

    largest_score_difference: float | None
    score_error: float
    largest_posterior_difference: float
    top1_agreement: str


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
    agree = sum(c.agree for c in comparisons)
    return {
        "largest_score_difference": max(c.score_difference for c in comparisons),
        "score_error": max(c.score_error for c in comparisons),
        "largest_posterior_difference": max(c.posterior_difference for c in comparisons),
        "top1_agreement": f"{agree}/{sum(c.batch for c in comparisons)}",
    }


def summary(exported: Exported) -> dict[str, object]:
    """One entry of export.json."""
    sizes = {(c.height, c.width) for c in exported.comparisons}
    row: dict[str, object] = {
        "file": exported.path.name,
        "arch": exported.artifact.spec.arch,
        "precision": exported.artifact.precision,
        "input": exported.artifact.input,
        "bytes": exported.size,
        **differences(exported),
        "sizes_checked": len(sizes),
        "kept": list(exported.kept),
    }
    if exported.cost is not None:
        row["cost"] = exported.cost.rating
    return row


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
    exported: list[Exported], sources: list[Path], engines: list[BuiltEngine], folder: Path
) -> str:
    """The text of export.json: the files that a command wrote, and those that it worked from.

    Args:
        exported: ONNX files and ncnn's files that were written.
        sources: ONNX files that engines and ncnn's files were made from.
        engines: That were built.
        folder: Of export.json; files are named by their path from there.
    """
    written = {e.path for e in exported}
    rows: list[dict[str, object]] = []
    for file in exported:
        rows.append({**summary(file), "file": os.path.relpath(file.path, folder)})
    for path in sources:
        if path not in written:
            rows.append({"file": os.path.relpath(path, folder)})
    for engine in engines:
        rows.append({**engine_summary(engine), "file": os.path.relpath(engine.path, folder)})
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def show_engines(engines: list[BuiltEngine]) -> None:
    """Print one line per profile."""
    title = f"Engines, {_flavour(engines[0])}" if engines else "Engines"
    table = Table(title=title, title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column("build s", justify="right")
    table.add_column("targets")
    table.add_column("profile: least / tuned / largest, batch x height x width")
    table.add_column("activations MB", justify="right")
    for engine in engines:
        _add_engine(table, engine)
    results().print(table)


def _add_engine(table: Table, engine: BuiltEngine) -> None:
    """One line per profile; the first has the engine's own columns."""
    m = engine.manifest
    own_columns = (
        str(engine.path),
        f"{m.bytes / 1e6:.1f}",
        f"{m.build_seconds:.1f}",
        ", ".join(m.targets),
    )
    for i, profile in enumerate(m.profiles):
        activations = f"{m.activation_bytes[i] / 1e6:,.0f}" if i < len(m.activation_bytes) else ""
        first_columns = own_columns if i == 0 else ("",) * len(own_columns)
        table.add_row(*first_columns, profile_text(profile), activations)


def _flavour(engine: BuiltEngine) -> str:
    return f"{engine.manifest.flavour} {engine.manifest.version}"


def show(exported: list[Exported]) -> None:
    """Print every size that a float32 file was checked at, then one line per file.

    Args:
        exported: Files with one reference, at least one.
    """
    console = results()
    for file in exported:
        if file.artifact.precision == "fp32":
            console.print(_sizes(file))
    has_cost = any(file.cost for file in exported)
    title = f"Exported, against {exported[0].reference} in float32"
    table = Table(title=title, title_justify="left")
    table.add_column("file")
    table.add_column("MB", justify="right")
    table.add_column("input")
    for column in ("largest difference", "RMS %", "of posteriors", "top-1 agrees"):
        table.add_column(column, justify="right")
    if has_cost:
        table.add_column("cost")
        table.add_column("not quantized")
    for file in exported:
        cells = _cells(file)
        if has_cost:
            cells += [file.cost.rating if file.cost else "", ", ".join(file.kept)]
        table.add_row(*cells)
    console.print(table)
    if has_cost:
        console.print(
            "Files with a cost: differences on held-out calibration images; "
            "others: on the built-in images."
        )


def _cells(exported: Exported) -> list[str]:
    found = differences(exported)
    largest = found["largest_score_difference"]
    return [
        str(exported.path),
        f"{exported.size / 1e6:.1f}",
        exported.artifact.input,
        "" if largest is None else f"{largest:.1e}",
        f"{100 * found['score_error']:.2g}",
        f"{found['largest_posterior_difference']:.1e}",
        found["top1_agreement"].replace("/", " of "),
    ]


def _sizes(exported: Exported) -> Table:
    table = Table(title=f"{exported.path.name} against {exported.reference}", title_justify="left")
    for column in (
        "image (H x W)",
        "batch",
        "score map",
        "largest score",
        "largest difference",
        "of posteriors",
        "top-1 agrees",
    ):
        table.add_column(column, justify="right")
    for c in exported.comparisons:
        table.add_row(
            f"{c.height} x {c.width}",
            str(c.batch),
            f"{c.map[0]} x {c.map[1]}",
            f"{c.largest_score:.3g}",
            f"{c.score_difference:.1e}",
            f"{c.posterior_difference:.1e}",
            f"{c.agree} of {c.batch}",
        )
    return table
