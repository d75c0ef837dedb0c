"""What vgg-export shows, and the same for machines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from export.tensorrt.build import BuiltEngine
from vgg_deploy.exported.trt_manifest import Profile
from vgg_deploy.progress import results

if TYPE_CHECKING:  # it needs PyTorch, engines do not
    from export.release import Exported


def summary(exported: Exported) -> dict:
    """One row of the table and of export.json.

    The differences of a quantized file are those on held-out calibration images, of others those on the built-in images.
    """
    comparisons = exported.comparisons
    row = {
        "file": exported.path.name,
        "arch": exported.artifact.spec.arch,
        "precision": exported.artifact.precision,
        "input": exported.artifact.input,
        "bytes": exported.size,
        "largest_score_difference": max(c.score_difference for c in comparisons),
        "score_error": max(c.score_error for c in comparisons),
        "largest_posterior_difference": max(c.posterior_difference for c in comparisons),
        "top1_agreement": f"{sum(c.agree for c in comparisons)}/{sum(c.batch for c in comparisons)}",
        "sizes_checked": len({(c.height, c.width) for c in comparisons}),
        "kept": list(exported.kept),
    }
    if exported.cost is None:
        return row
    return {
        **row,
        "largest_score_difference": None,
        "score_error": exported.cost.score_error_pct / 100,
        "largest_posterior_difference": exported.cost.largest_posterior_difference,
        "top1_agreement": f"{exported.cost.agree}/{exported.cost.images}",
        "cost": exported.cost.rating,
    }


def engine_summary(engine: BuiltEngine) -> dict:
    """One row of the table and of export.json."""
    m = engine.manifest
    return {
        "file": engine.path.name,
        "arch": m.artifact.spec.arch,
        "precision": m.artifact.precision,
        "input": m.artifact.input,
        "bytes": m.bytes,
        "onnx": m.onnx,
        "flavour": f"{m.flavour} {m.version}",
        "targets": list(m.targets),
        "profiles": [profile_text(p) for p in m.profiles],
        "activation_bytes": list(m.activation_bytes),
        "build_seconds": m.build_seconds,
    }


def profile_text(profile: Profile) -> str:
    """Least, tuned and largest batch x height x width."""
    return " / ".join("x".join(map(str, shape)) for shape in profile)


def listing(
    exported: list[Exported], sources: list[Path], engines: list[BuiltEngine], folder: Path
) -> str:
    """export.json: what this command wrote, and the ONNX files that engines were built from; other folders' by their path from here."""
    written = {e.path for e in exported}
    rows = [{**summary(e), "file": os.path.relpath(e.path, folder)} for e in exported]
    rows += [{"file": os.path.relpath(path, folder)} for path in sources if path not in written]
    rows += [{**engine_summary(e), "file": os.path.relpath(e.path, folder)} for e in engines]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def show_engines(engines: list[BuiltEngine]) -> None:
    """A line a profile."""
    table = Table(
        title=f"Engines, {engine_summary(engines[0])['flavour']}" if engines else "Engines",
        title_justify="left",
    )
    for column in (
        "file",
        "MB",
        "build s",
        "targets",
        "profile: least / tuned / largest, batch x height x width",
        "activations MB",
    ):
        table.add_column(
            column,
            justify="right" if column in ("MB", "build s", "activations MB") else "left",
            no_wrap=column == "file",
        )
    for e in engines:
        m = e.manifest
        for i, profile in enumerate(m.profiles):
            first = (
                (
                    str(e.path),
                    f"{m.bytes / 1e6:.1f}",
                    f"{m.build_seconds:.1f}",
                    ", ".join(m.targets),
                )
                if i == 0
                else ("",) * 4
            )
            table.add_row(
                *first,
                profile_text(profile),
                f"{m.activation_bytes[i] / 1e6:,.0f}" if i < len(m.activation_bytes) else "",
            )
    results().print(table)


def show(exported: list[Exported]) -> None:
    """Every size that a float32 file was checked at, then a line a file. Args: exported, files with one reference."""
    console = results()
    for e in exported:
        if e.artifact.precision == "fp32":
            console.print(_sizes(e))
    columns = [
        "file",
        "MB",
        "input",
        "largest difference",
        "RMS %",
        "of posteriors",
        "top-1 agrees",
    ]
    quantized = any(e.cost for e in exported)
    if quantized:
        columns += ["cost", "not quantized"]
    table = Table(
        title=f"Exported, against {exported[0].reference} in float32", title_justify="left"
    )
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in ("file", "input", "cost", "not quantized") else "right",
        )
    for e in exported:
        row = summary(e)
        largest = row["largest_score_difference"]
        cells = [str(e.path), f"{row['bytes'] / 1e6:.1f}", row["input"], "" if largest is None else f"{largest:.1e}",
                 f"{100 * row['score_error']:.2g}", f"{row['largest_posterior_difference']:.1e}",
                 row["top1_agreement"].replace("/", " of ")]  # fmt: skip
        if quantized:
            cells += [row.get("cost", ""), ", ".join(row["kept"])]
        table.add_row(*cells)
    console.print(table)
    if quantized:
        console.print(
            "Files with a cost: differences on held-out calibration images; others: on the built-in images."
        )


def _sizes(exported: Exported) -> Table:
    table = Table(title=f"{exported.path.name} against {exported.reference}", title_justify="left")
    for column in (
        "picture (H x W)",
        "batch",
        "score map",
        "largest score",
        "largest difference",
        "of posteriors",
        "top-1 agrees",
    ):
        table.add_column(column, justify="right")
    for c in exported.comparisons:
        table.add_row(f"{c.height} x {c.width}", str(c.batch), f"{c.map[0]} x {c.map[1]}", f"{c.largest_score:.3g}",
                      f"{c.score_difference:.1e}", f"{c.posterior_difference:.1e}", f"{c.agree} of {c.batch}")  # fmt: skip
    return table
