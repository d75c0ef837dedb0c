"""What the gate says of files with a planted fault, and of good ones: python benchmarks/planted_faults.py

A thin A is trained on the built-in pictures (or given by --net). Faults are planted into its ONNX file, past the check
of vgg-export; every file says that it was made from this net. Each is gated against the checkpoint by vgg-bench on few and
on many images, with limits of 0.5 points and 99 % agreement. Beside the verdict stands which checks spoke, and what those
say that count images alone. Cells are kept in --work, so that a run that was cut off resumes.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import pandas as pd
import torch
from click.testing import CliRunner
from fault_files import Fault, faults

from bench.cli import main as vgg_bench
from bench.results.environment import describe_environment
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
COUNTED = ("top-1 drop", "top-5 drop", "agreement")
BY_EXIT_CODE = {
    0: "pass",
    1: "fail",
    2: "error",
    3: "undecided",
}  # error: the file is refused before anything is measured


@dataclass(frozen=True)
class Line:
    """One file at one number of images; field names are the columns of planted_faults.csv."""

    file: str
    kind: str
    images: int
    wanted: str  # "fail", "pass", "not fail", "any"
    verdict: str
    exit_code: int
    spoke: str  # checks that failed
    counted: str  # the verdict of drops and agreement alone
    largest_posterior_difference: float
    top1_drop_points: float
    agreement_pct: float

    @property
    def as_wanted(self) -> bool:
        """Whether the gate said what it should."""
        allowed = {"fail": ("fail", "error"), "pass": ("pass",), "not fail": ("pass", "undecided"),
                   "any": ("pass", "fail")}  # fmt: skip
        verdict_fits = self.verdict in allowed[self.wanted]
        return verdict_fits and BY_EXIT_CODE.get(self.exit_code) == self.verdict


def trained(work: Path, short: bool) -> Path:
    """A checkpoint of the small recipe; the one that is there."""
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


def of_other_weights(net: VGG, source: Path, folder: Path) -> list[tuple[str, str, str, Path]]:
    """Files of another net: stale, of another arch, and one that only says that it is of the reference."""
    older = VGG(net.spec)
    older.load_state_dict({name: tensor * 1.02 for name, tensor in net.state_dict().items()})
    other = VGG(net.spec)
    initialise(other, "he", torch.Generator().manual_seed(1))
    found = []
    for name, one in (("stale: made from an earlier checkpoint", older), ("random weights", other)):
        path = folder / f"{name.replace(':', '')}.pt"
        save_checkpoint(path, Checkpoint(net.spec, one.state_dict()))
        exported = export_onnx(
            path,
            folder / name.partition(":")[0],
            ExportOptions(("fp32",)),
            None,
            1,
            lambda text: None,
        )[0]
        found.append((name, "origin", "fail", exported.path))
    deeper = VGG(replace(net.spec, arch="B"))
    initialise(deeper, "he", torch.Generator().manual_seed(1))
    artifact = Artifact(net.spec, "uint8", "fp32", source.name, sha256(source))
    path = folder / "another arch under this name.onnx"
    write_onnx(path, onnx_graph(deeper, artifact, PRECISIONS["fp32"]))
    return [*found, ("another arch under this name", "origin", "fail", path)]


def good_files(
    net: VGG, source: Path, folder: Path, short: bool
) -> list[tuple[str, str, str, Path]]:
    """Exports that must pass, and others that may be undecided but must not fail."""
    wanted = ("fp32",) if short else ("fp32", "fp16")
    exported = {
        one.artifact.precision: one.path
        for one in export_onnx(
            source, folder / "good", ExportOptions(wanted), None, 1, lambda text: None
        )
    }
    found = [("float32 export", "good", "pass", exported["fp32"])]
    turned = replace(net.spec, classes=net.spec.classes[::-1], names=net.spec.names[::-1])
    permuted = build(
        turned,
        {
            name: tensor.flip(0) if name.startswith("fc8") else tensor
            for name, tensor in net.state_dict().items()
        },
    )
    path = folder / "classes and fc8 reversed.onnx"
    write_onnx(
        path,
        onnx_graph(
            permuted,
            Artifact(turned, "uint8", "fp32", source.name, sha256(source)),
            PRECISIONS["fp32"],
        ),
    )
    found.append(("classes and fc8 reversed together", "good", "pass", path))
    if short:
        return found
    normalised = export_onnx(
        source,
        folder / "normalised",
        ExportOptions(("fp32",), form="normalised"),
        None,
        1,
        lambda text: None,
    )[0]
    found.append(("float32 export with normalised input", "good", "pass", normalised.path))
    ncnn = export_ncnn(exported["fp32"], 1, lambda text: None)
    found.append(("float32 ncnn", "good", "pass", ncnn.path))
    found.append(("float16 export", "good", "not fail", exported["fp16"]))
    return found


def gated(
    name: str, kind: str, wanted: str, path: Path, reference: Path, images: int, work: Path
) -> Line:
    """Run vgg-bench as a build does, and read what it left."""
    out = work / "results"
    args = [
        reference,
        path,
        "--images",
        images,
        "--scales",
        ",".join(map(str, SIDES)),
        "--measure",
        "accuracy",
        *LIMITS,
    ]
    args += ["--threads", "1", "--cells", work / "cells", "--out", out]
    result = CliRunner().invoke(vgg_bench, [str(arg) for arg in args])
    if result.exit_code not in BY_EXIT_CODE:
        raise SystemExit(f"{name}: exit code {result.exit_code}\n{result.output}")
    found = json.loads((out / "gate.json").read_text())
    if found["verdict"] == "error":
        nothing = float("nan")
        return Line(
            name,
            kind,
            images,
            wanted,
            "error",
            result.exit_code,
            found["message"],
            "no rows",
            nothing,
            nothing,
            nothing,
        )
    checks = [check for check in found["checks"] if check["model"] == path.name]
    spoke = dict.fromkeys(check["check"] for check in checks if check["verdict"] == "fail")
    verdicts = {check["verdict"] for check in checks if check["check"] in COUNTED}
    equal = any("to rounding" in check["message"] for check in checks if check["check"] in COUNTED)
    counted = next((v for v in ("fail", "undecided", "pass") if v in verdicts), "no rows")
    table = pd.read_csv(out / "comparisons.csv") if verdicts else pd.DataFrame()
    worst = [float(table[column].agg(how)) if len(table) else float("nan") for column, how in
             (("largest_posterior_difference", "max"), ("top1_difference_pct", "max"), ("agreement_pct", "min"))]  # fmt: skip
    return Line(
        name,
        kind,
        images,
        wanted,
        found["verdict"],
        result.exit_code,
        ", ".join(spoke),
        "by equality" if equal else counted,
        *worst,
    )


def markdown(lines: list[Line], environment: dict, short: bool) -> str:
    """The whole document."""
    bad, good = (
        [line for line in lines if (line.kind != "good") == wrong] for wrong in (True, False)
    )
    kinds = {line.kind for line in bad}
    parts = [
        "# Planted faults\n",
        f"`python benchmarks/planted_faults.py{' --short' if short else ''}`\n",
        f"{len({line.file for line in bad})} faults of {len(kinds)} kinds in a thin A, and {len({line.file for line in good})} good files, each "
        f"against the checkpoint with `{' '.join(LIMITS)}` at Q = {', '.join(map(str, SIDES))} and both together, with and without flips.\n",
    ]
    for images in sorted({line.images for line in lines}):
        found = sum(line.verdict in ("fail", "error") for line in bad if line.images == images)
        by_counting = sum(line.counted == "fail" for line in bad if line.images == images)
        all_bad = sum(line.images == images for line in bad)
        parts.append(
            f"- {images} images: {found} of {all_bad} faults fail the gate or are refused; counting images alone would fail {by_counting}."
        )
    small = [line for line in bad if line.wanted == "any" and line.verdict == "pass"]
    parts += [
        f"- Not found, as smaller than the limit of rounding: {line.file}, {line.images} images, posteriors differ by up to "
        f"{line.largest_posterior_difference:.2g}." for line in small
    ]  # fmt: skip
    wrong = [line for line in lines if not line.as_wanted]
    parts.append(
        f"- Good files that fail: {sum(line.verdict in ('fail', 'error') for line in good)}."
    )
    parts += [
        f"- Not as it should be: {line.file}, {line.images} images: {line.verdict}, wanted {line.wanted}."
        for line in wrong
    ]
    parts.append("")
    heads = ["file", "kind", "images", "verdict", "exit code", "checks that failed", "counting alone", "largest difference of posteriors",
             "top-1 drop, points", "agreement %"]  # fmt: skip
    rows = [
        [line.file, line.kind, str(line.images), f"**{line.verdict}**", str(line.exit_code), line.spoke or "-", line.counted,
         f"{line.largest_posterior_difference:.2g}", f"{line.top1_drop_points:+.1f}", f"{line.agreement_pct:.1f}"]
        for line in lines
    ]  # fmt: skip
    table = [heads, ["---"] * len(heads), *rows]
    parts += [
        "| " + " | ".join("-" if cell in ("nan", "+nan") else cell for cell in row) + " |"
        for row in table
    ]
    parts += [
        "",
        "The worst of all rows stands for a file. *By equality*: shown equal to rounding, so drops and agreement pass.",
        "",
    ]
    parts += ["```json", json.dumps(environment, indent=2), "```", ""]
    return "\n".join(parts)


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
    """Gate every planted fault and every good file; ends with 1 if a verdict is not as it should be."""
    reference, files = net or trained(work, short), work / "files"
    files.mkdir(parents=True, exist_ok=True)
    held = load_checkpoint(reference)
    built = build(held.spec, held.weights)
    tried = [
        (fault.name, fault.kind, fault.wanted, planted(built, reference, fault, files))
        for fault in faults(SIDES[1])
    ]
    tried += of_other_weights(built, reference, files) + good_files(built, reference, files, short)
    tried = [one for one in tried if only in one[0]]
    lines = []
    for one in tried:
        for images in (12,) if short else counts:
            lines.append(gated(*one, reference, images, work))
            line = lines[-1]
            print(
                f"{line.file}, {images} images: {line.verdict}{'' if line.as_wanted else ', NOT AS WANTED'} ({line.spoke or '-'})",
                flush=True,
            )
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([asdict(line) for line in lines]).to_csv(out / "planted_faults.csv", index=False)
    write_text(out / "planted_faults.md", markdown(lines, describe_environment(1), short))
    raise SystemExit(0 if all(line.as_wanted for line in lines) else 1)


if __name__ == "__main__":
    main()
