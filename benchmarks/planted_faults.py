"""Checks the gate's verdicts on files with a planted fault, and on good files.

    python benchmarks/planted_faults.py

A thin A is trained on the built-in images (or given by --net). Faults are planted into its ONNX
file, past the check of vgg-export; every file claims to be made from this net. vgg-bench gates each
against the checkpoint on few and on many images, with limits of 0.5 points and 99 % agreement.
Beside the verdict are the checks that failed, and the verdict of the checks that only count images.
Cells are kept in --work, so that an interrupted run resumes.
"""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import torch
from click.testing import CliRunner
from fault_files import Fault, faults
from result_tables import environment_block, markdown_table, write_csv

from bench.cli import main as vgg_bench
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.files import sha256, write_text
from vgg_deploy.net.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise

LIMITS = ("--max-top1-drop", "0.5", "--max-top5-drop", "0.5", "--min-agreement", "99")
SIDES = (128, 192)
HEADS = (
    "file",
    "kind",
    "images",
    "verdict",
    "exit code",
    "checks that failed",
    "counting alone",
    "largest difference of posteriors",
    "top-1 drop, points",
    "agreement %",
)
COUNTED = ("top-1 drop", "top-5 drop", "agreement")
# by exit code; "error": the file is refused before anything is measured
VERDICTS = {0: "pass", 1: "fail", 2: "error", 3: "undecided"}
ALLOWED = {  # verdicts allowed for each expectation
    "fail": ("fail", "error"),
    "pass": ("pass",),
    "not fail": ("pass", "undecided"),
    "any": ("pass", "fail"),
}


class File(NamedTuple):
    """A file to gate."""

    name: str
    kind: str
    expected: str  # a key of ALLOWED
    path: Path


@dataclass(frozen=True)
class Line:
    """One file at one number of images; field names are the columns of planted_faults.csv."""

    file: str
    kind: str
    images: int
    wanted: str  # a key of ALLOWED
    verdict: str
    exit_code: int
    spoke: str  # checks that failed
    counted: str  # the verdict of drops and agreement alone
    largest_posterior_difference: float = math.nan
    top1_drop_points: float = math.nan
    agreement_pct: float = math.nan

    @property
    def as_wanted(self) -> bool:
        """Whether the verdict is the expected one, and agrees with the exit code."""
        fits = self.verdict in ALLOWED[self.wanted]
        return fits and VERDICTS.get(self.exit_code) == self.verdict

    @property
    def failed(self) -> bool:
        """Whether the file failed the gate or was refused."""
        return self.verdict in ("fail", "error")


def trained(work: Path, short: bool) -> Path:
    """A checkpoint of the small recipe; an existing one if there is one."""
    folder = work / ("short" if short else "A")
    if not (folder / "best.pt").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        options = ["--epochs", "1", "--images", "64"] if short else []
        subprocess.run(
            [sys.executable, "-m", "train", "--arch", "A", "--out", str(folder), *options],
            check=True,
        )
    return folder / "best.pt"


def planted(net: VGG, source: Path, fault: Fault, folder: Path) -> Path:
    """The file with one fault, written past the check of vgg-export."""
    artifact = Artifact(fault.described(net.spec), "uint8", "fp32", source.name, sha256(source))
    graph = onnx_graph(net, artifact, PRECISIONS["fp32"])
    fault.plant(graph)
    path = folder / f"{fault.name.replace('/', ' ')}.onnx"
    write_onnx(path, graph)
    return path


def float32_export(source: Path, folder: Path, form: str = "uint8") -> Path:
    """Export a checkpoint as users do."""
    options = ExportOptions(("fp32",), form=form)
    (exported,) = export_onnx(source, folder, options, None, 1, ignore)
    return exported.path


def ignore(text: str) -> None:
    """Print nothing."""


def of_other_weights(net: VGG, source: Path, folder: Path) -> list[File]:
    """Files of other nets: outdated, random, and of another arch under the reference's name."""
    older = VGG(net.spec)
    older.load_state_dict({name: tensor * 1.02 for name, tensor in net.state_dict().items()})
    other = VGG(net.spec)
    initialise(other, "he", torch.Generator().manual_seed(1))
    files = []
    for name, one in (("stale: made from an earlier checkpoint", older), ("random weights", other)):
        path = folder / f"{name.replace(':', '')}.pt"
        save_checkpoint(path, Checkpoint(net.spec, one.state_dict()))
        exported = float32_export(path, folder / name.partition(":")[0])
        files.append(File(name, "origin", "fail", exported))
    deeper = VGG(replace(net.spec, arch="B"))
    initialise(deeper, "he", torch.Generator().manual_seed(1))
    artifact = Artifact(net.spec, "uint8", "fp32", source.name, sha256(source))
    path = folder / "another arch under this name.onnx"
    write_onnx(path, onnx_graph(deeper, artifact, PRECISIONS["fp32"]))
    return [*files, File("another arch under this name", "origin", "fail", path)]


def good_files(net: VGG, source: Path, folder: Path, short: bool) -> list[File]:
    """Exports that must pass, and others that may be undecided but must not fail."""
    precisions = ("fp32",) if short else ("fp32", "fp16")
    options = ExportOptions(precisions)
    exports = export_onnx(source, folder / "good", options, None, 1, ignore)
    exported = {one.artifact.precision: one.path for one in exports}
    files = [
        File("float32 export", "good", "pass", exported["fp32"]),
        File(
            "classes and fc8 reversed together",
            "good",
            "pass",
            reversed_classes(net, source, folder),
        ),
    ]
    if short:
        return files
    normalised = float32_export(source, folder / "normalised", "normalised")
    ncnn = export_ncnn(exported["fp32"], 1, ignore).path
    return [
        *files,
        File("float32 export with normalised input", "good", "pass", normalised),
        File("float32 ncnn", "good", "pass", ncnn),
        File("float16 export", "good", "not fail", exported["fp16"]),
    ]


def reversed_classes(net: VGG, source: Path, folder: Path) -> Path:
    """The same net with its classes in reverse order."""
    spec = replace(net.spec, classes=net.spec.classes[::-1], names=net.spec.names[::-1])
    weights = {
        name: tensor.flip(0) if name.startswith("fc8") else tensor
        for name, tensor in net.state_dict().items()
    }
    artifact = Artifact(spec, "uint8", "fp32", source.name, sha256(source))
    path = folder / "classes and fc8 reversed.onnx"
    write_onnx(path, onnx_graph(build(spec, weights), artifact, PRECISIONS["fp32"]))
    return path


def gate(file: File, reference: Path, images: int, work: Path) -> Line:
    """Run vgg-bench as a build does, and read its results.

    Args:
        file: The file to gate.
        reference: The checkpoint.
        images: Number of images.
        work: Folder of cells and results.

    Raises:
        SystemExit: With the output of vgg-bench if it did not end with a verdict.
    """
    out = work / "results"
    options = {
        "--images": images,
        "--scales": ",".join(map(str, SIDES)),
        "--measure": "accuracy",
        "--threads": 1,
        "--cells": work / "cells",
        "--out": out,
    }
    words = [str(word) for option in options.items() for word in option]
    result = CliRunner().invoke(vgg_bench, [str(reference), str(file.path), *LIMITS, *words])
    if result.exit_code not in VERDICTS:
        raise SystemExit(f"{file.name}: exit code {result.exit_code}\n{result.output}")
    report = json.loads((out / "gate.json").read_text())
    known = (file.name, file.kind, images, file.expected)
    if report["verdict"] == "error":
        return Line(*known, "error", result.exit_code, report["message"], "no rows")
    checks = [check for check in report["checks"] if check["model"] == file.path.name]
    failed = dict.fromkeys(check["check"] for check in checks if check["verdict"] == "fail")
    line = Line(
        *known, report["verdict"], result.exit_code, ", ".join(failed), counted_verdict(checks)
    )
    if line.counted == "no rows":
        return line
    table = pd.read_csv(out / "comparisons.csv")
    return replace(
        line,
        largest_posterior_difference=float(table.largest_posterior_difference.max()),
        top1_drop_points=float(table.top1_difference_pct.max()),
        agreement_pct=float(table.agreement_pct.min()),
    )


def counted_verdict(checks: list[dict]) -> str:
    """The verdict of the checks that count images, as the gate combines verdicts."""
    counting = [check for check in checks if check["check"] in COUNTED]
    if any("to rounding" in check["message"] for check in counting):
        return "by equality"
    verdicts = {check["verdict"] for check in counting}
    return next((v for v in ("fail", "undecided", "pass") if v in verdicts), "no rows")


def markdown(lines: list[Line], short: bool) -> str:
    """The whole document, except the description of the machine."""
    bad = [line for line in lines if line.kind != "good"]
    good = [line for line in lines if line.kind == "good"]
    faults_tried, good_tried = ({line.file for line in group} for group in (bad, good))
    parts = [
        "# Planted faults\n",
        f"`python benchmarks/planted_faults.py{' --short' if short else ''}`\n",
        f"{len(faults_tried)} faults of {len({line.kind for line in bad})} kinds in a thin A, and "
        f"{len(good_tried)} good files, each against the checkpoint with `{' '.join(LIMITS)}` at "
        f"Q = {', '.join(map(str, SIDES))} and both together, with and without flips.\n",
    ]
    for images in sorted({line.images for line in lines}):
        tried = [line for line in bad if line.images == images]
        failed = sum(line.failed for line in tried)
        by_counting = sum(line.counted == "fail" for line in tried)
        parts.append(
            f"- {images} images: {failed} of {len(tried)} faults fail the gate or are refused; "
            f"counting images alone would fail {by_counting}."
        )
    parts += [
        f"- Not detected, because smaller than the limit of rounding: {line.file}, {line.images} "
        f"images, posteriors differ by up to {line.largest_posterior_difference:.2g}."
        for line in bad
        if line.wanted == "any" and line.verdict == "pass"
    ]
    parts.append(f"- Good files that fail: {sum(line.failed for line in good)}.")
    parts += [
        f"- Unexpected: {line.file}, {line.images} images: {line.verdict} instead of {line.wanted}."
        for line in lines
        if not line.as_wanted
    ]
    parts += [
        "",
        markdown_table(HEADS, [cells(line) for line in lines]),
        "The worst of all rows of a file is shown. *By equality*: shown equal to rounding, so "
        "drops and agreement pass.\n",
    ]
    return "\n".join(parts)


def cells(line: Line) -> list[str]:
    """Cells of one row, in the order of HEADS."""
    return [
        line.file,
        line.kind,
        str(line.images),
        f"**{line.verdict}**",
        str(line.exit_code),
        line.spoke or "-",
        line.counted,
        number(line.largest_posterior_difference, ".2g"),
        number(line.top1_drop_points, "+.1f"),
        number(line.agreement_pct, ".1f"),
    ]


def number(value: float, form: str) -> str:
    """A number, or "-" if there is none."""
    return "-" if math.isnan(value) else format(value, form)


@click.command(context_settings={"show_default": True})
@click.option(
    "--net",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint of an A.  [default: trained here]",
)
@click.option(
    "--images",
    "counts",
    multiple=True,
    default=(40, 200),
    type=click.IntRange(1),
    help="Numbers of images; may be repeated.",
)
@click.option("--only", default="", help="Only faults with these words in their name.")
@click.option("--short", is_flag=True, help="A rehearsal: a hardly trained net, 12 images.")
@click.option(
    "--work",
    default="results/planted_faults",
    type=click.Path(path_type=Path),
    help="Folder of nets, files and cells.",
)
@click.option(
    "--out",
    default=Path(__file__).parent / "results",
    type=click.Path(path_type=Path),
    help="Folder of the tables.",
)
def main(
    net: Path | None, counts: tuple[int, ...], only: str, short: bool, work: Path, out: Path
) -> None:
    """Gate every planted fault and every good file; ends with 1 if a verdict is unexpected."""
    reference, folder = net or trained(work, short), work / "files"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(reference)
    built = build(checkpoint.spec, checkpoint.weights)
    files = [
        File(fault.name, fault.kind, fault.wanted, planted(built, reference, fault, folder))
        for fault in faults(SIDES[1])
    ]
    files += of_other_weights(built, reference, folder)
    files += good_files(built, reference, folder, short)
    lines = []
    for file in files:
        if only not in file.name:
            continue
        for images in (12,) if short else counts:
            line = gate(file, reference, images, work)
            lines.append(line)
            remark = "" if line.as_wanted else ", UNEXPECTED"
            print(
                f"{line.file}, {images} images: {line.verdict}{remark} ({line.spoke or '-'})",
                flush=True,
            )
    write_csv(pd.DataFrame([asdict(line) for line in lines]), out / "planted_faults.csv")
    text = f"{markdown(lines, short)}\n{environment_block(1)}"
    write_text(out / "planted_faults.md", text)
    raise SystemExit(0 if all(line.as_wanted for line in lines) else 1)


if __name__ == "__main__":
    main()
