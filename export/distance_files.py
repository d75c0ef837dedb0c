"""Exports distances of two images to ONNX files, which get their names only after their checks."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from onnx import ModelProto

from export.distance.graph import distance_graph, only_convolutions
from export.distance.parity import (
    DistortedParity,
    PairParity,
    compare_distorted,
    compare_pairs,
    judge_distorted,
    judge_equal,
    judge_pairs,
)
from export.distance_preparation import PreparedDistance, prepare_distance
from export.file_names import onnx_name, replaces_distance
from export.onnx.graph import IR_VERSIONS
from export.onnx.onnx_file import beside, read_referring, write_onnx, write_with_data
from export.onnx_manifest import PACKAGES, describe_quantization
from export.preparation import Task
from export.quantize.bands import some_rows
from export.quantize.rounding import Quantization, ReducedNet
from export.released_files import DistancesPartlyExported, ExportedDistance, FailedFile
from export.settings.distance_choice import DistanceChoice
from export.settings.export_options import ExportOptions
from export.settings.precision import BF16, Precision
from export.verify.float32_twin import check_twin, float32_twin, in_float32
from export.verify.lint import lint
from export.verify.memory import keep_blocks
from export.verify.onnx_checker import check_onnx
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact
from vgg_deploy.exported.metadata import data_path, manifest_path
from vgg_deploy.exported.signatures import signature_path
from vgg_deploy.files import sha256, whole_files
from vgg_deploy.images import distortions
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.runtimes import runtime_package
from vgg_deploy.runtimes.distances import OnnxDistance
from vgg_deploy.runtimes.integer_kernels import check_arithmetic

MOST_PAIRS = 5  # per call on distorted photos


def export_distances(
    source: str | Path | Located,
    folder: Path,
    options: ExportOptions,
    choice: DistanceChoice,
    threads: int,
    log: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
    on_file: Callable[[list[ExportedDistance]], None] = lambda exported: None,
) -> list[ExportedDistance]:
    """Write an ONNX file and its manifest for every precision.

    They are called `<name or arch>.<kind>.<precision>.onnx`, such as D.lpips.fp32.onnx.

    Args:
        source: A checkpoint or foreign weights; convolutions alone will do.
        folder: Of the files.
        options: Which files to write.
        choice: The distance.
        threads: Of calibration and check; as many processes decode images.
        log: Called with a sentence for each step and warning.
        stated: For foreign weights, see `open_net`.
        on_file: Called with the files so far whenever one has its final name.

    Raises:
        InputError: If the input cannot be used; nothing is written then.
        DistancesPartlyExported: If files fail; the others are written.
    """
    keep_blocks()
    task = Task(locate(source), folder, options, None, threads, log, stated)
    prepared = prepare_distance(task, choice)
    exported: list[ExportedDistance] = []
    failures: list[FailedFile] = []
    for precision in task.precisions:
        stem = options.name or prepared.artifact.spec.arch
        path = folder / onnx_name(stem, options.form, precision.name, choice.kind)
        try:
            exported.append(_Export(task, prepared, precision, path).run())
            on_file(exported)
        except (CheckFailed, InputError) as error:
            error.__context__ = None  # as in export.release
            failures.append(FailedFile(path.name, error.with_traceback(None)))
    if failures and not exported and all(isinstance(f.error, InputError) for f in failures):
        raise failures[0].error  # the folder cannot be written
    if failures:
        raise DistancesPartlyExported(exported, failures)
    return exported


class _Export:
    """Writes, checks and names one file, its weights outside and its manifest."""

    def __init__(self, task: Task, prepared: PreparedDistance, precision: Precision, path: Path):
        self.task, self.prepared, self.precision, self.path = task, prepared, precision, path
        self.artifact: DistanceArtifact = replace(prepared.artifact, precision=precision.name)
        self.quantization: Quantization | None = None
        if prepared.quantized:
            self.quantization = prepared.quantized.quantizations.get(precision.name)

    def run(self) -> ExportedDistance:
        """Write the file.

        Raises:
            CheckFailed: If a check fails.
            InputError: If the folder cannot be written.
        """
        path, log = self.path, self.task.log
        replaced = replaces_distance(path, self.artifact, self._described())
        if replaced:
            log(f"Warning: {replaced} if the new file passes; --name gives it another name")
        parts = [path, manifest_path(path)]
        if self.task.options.external_data:
            parts.insert(0, data_path(path))
        obsolete = {data_path(path), signature_path(path)} - set(parts)
        with whole_files(parts, tuple(obsolete)) as partials:
            graph, data = partials[-2], partials[0] if len(partials) > 2 else None
            exported = self._write_and_check(graph, data)
            manifest = self._manifest(exported, graph, data)
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
            partials[-1].write_text(text, encoding="utf-8")
        return exported

    def _write_and_check(self, written: Path, data: Path | None) -> ExportedDistance:
        """Write the file under its temporary names, and check it."""
        prepared, log, path = self.prepared, self.task.log, self.path
        log(f"writing {path}")
        graph = distance_graph(
            prepared.net, self.artifact, self.precision, self.quantization, prepared.heads
        )
        if data:
            write_with_data(written, graph, data, data_path(path).name)
        else:
            write_onnx(written, graph)
        del graph
        log(f"checking {path.name} in onnx and ONNX Runtime")
        model = read_referring(written, data)
        with ExitStack() as until_checked:
            file = until_checked.enter_context(beside(written, model, ".check.onnx"))
            check_onnx(file)
            if self.precision.name != "fp32":
                self._check_convolutions(model, written)
            if self.precision.trunk == BF16:  # no CPU kernel runs it
                file = until_checked.enter_context(in_float32(model, written))
            runtime = _as_it_will_run(file, self.precision, self.task.threads)
            comparisons = self._compare(runtime)
            distorted = self._distorted(runtime)
        by = prepared.reference_name
        if not self.quantization:
            judge_pairs(comparisons, self.precision.name, path, by)
        judge_equal(comparisons, path)
        max_cost = self.task.options.max_cost if self.quantization else None
        judge_distorted(distorted, max_cost, log, path.name)
        size = sum(part.stat().st_size for part in (written, data) if part)
        return ExportedDistance(
            path, self.artifact, size, tuple(comparisons), distorted, self._kept, by
        )

    def _check_convolutions(self, model: ModelProto, written: Path) -> None:
        """Check the convolutions alone: lint, float32 twin, and integer kernels.

        Raises:
            CheckFailed: If one differs from what the precision stores.
        """
        prepared, name, threads = self.prepared, self.path.name, self.task.threads
        layers = self.artifact.layers
        form = "float32" if self.artifact.input == "uint8" else self.artifact.input
        reduced = ReducedNet(prepared.net, self.precision, self.quantization, layers, some_rows)
        findings = lint(
            only_convolutions(model, self.artifact),
            self.precision,
            set(reduced.mappings),
            prepared.ranges,
            written.parent,
        )
        if findings:
            raise CheckFailed("; ".join(findings))
        batches = [np.concatenate(pairs) for pairs in prepared.check]
        with float32_twin(only_convolutions(model, self.artifact), written) as twin:
            for _ in check_twin(twin, lambda: reduced, form, batches, threads, name):
                pass
        if self.precision.fused:
            check_arithmetic(written, threads, name)

    def _compare(self, runtime: OnnxDistance) -> list[PairParity]:
        """Compare the check pairs with the reference."""
        batches = zip(self.prepared.check, self.prepared.check_reference, strict=True)
        return [compare_pairs(runtime(*pairs), reference, *pairs) for pairs, reference in batches]

    def _distorted(self, runtime: OnnxDistance) -> DistortedParity:
        """Compare photos and distorted photos with the reference."""
        self.task.log(f"distorted photos in {self.path.name}")
        found = [
            runtime(*(images[start : start + MOST_PAIRS] for images in pairs))
            for pairs in self.prepared.distorted
            for start in range(0, len(pairs.first), MOST_PAIRS)
        ]
        return compare_distorted(
            np.concatenate(found), self.prepared.distorted_reference, len(self.prepared.distorted)
        )

    @property
    def _kept(self) -> tuple[str, ...]:
        """Convolutions that are not quantized, of a quantized file."""
        if not self.quantization:
            return ()
        return tuple(n for n in self.task.options.keep if n in self.prepared.convolutions)

    def _described(self) -> dict[str, object] | None:
        """How the file is quantized, if it is."""
        if not self.quantization or not self.prepared.quantized:
            return None
        method = self.task.options.method
        return describe_quantization(self.prepared.quantized, self.precision, self._kept, method)

    def _manifest(
        self, exported: ExportedDistance, graph: Path, data: Path | None
    ) -> dict[str, object]:
        """Describe the file: its source, its checks, its quantization."""
        names = [*PACKAGES, runtime_package("onnxruntime")]
        names += ["lpips"] if self.artifact.kind == "lpips" else []
        manifest: dict[str, object] = {
            "file": self.path.name,
            "sha256": sha256(graph),
            "bytes": graph.stat().st_size,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "opset": self.precision.opset,
            "ir_version": IR_VERSIONS[self.precision.opset],
            **json.loads(self.artifact.to_json()),
            **self.prepared.record,
            "reference": exported.reference,
            "check": [asdict(comparison) for comparison in exported.comparisons],
            "distorted": {**asdict(exported.distorted), **_how_distorted()},
            "cost": exported.distorted.rating,
            "versions": {name: version(name) for name in names},
        }
        if data:
            manifest["data"] = {
                "file": data_path(self.path).name,
                "sha256": sha256(data),
                "bytes": data.stat().st_size,
            }
        described = self._described()
        if described:
            manifest["quantization"] = described
        return manifest


def _how_distorted() -> dict[str, object]:
    """The distortions, for the manifest."""
    return {
        "blur_sigma_px": distortions.BLUR_SIGMA,
        "noise_sigma_levels": distortions.NOISE_SIGMA,
        "jpeg_quality": distortions.JPEG_QUALITY,
        "brightness_factor": distortions.BRIGHTNESS,
        "shift_px": distortions.SHIFT,
    }


def _as_it_will_run(path: Path, precision: Precision, threads: int) -> OnnxDistance:
    """Open a file in ONNX Runtime, as export.release does."""
    if precision.fused:
        return OnnxDistance(path, threads=threads)
    return OnnxDistance(path, threads=threads, optimisation="ENABLE_EXTENDED", arena=False)
