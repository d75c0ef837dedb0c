"""From a checkpoint to checked files with their manifests; nothing gets its final name before it has passed."""

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from torch import nn

from export.onnx.graph import IR_VERSION, onnx_graph
from export.onnx.onnx_file import beside, read_referring, write_onnx, write_with_data
from export.quantize.calibration import (
    Calibration,
    calibrate,
    open_calibration_images,
    read_images,
    split,
    warn_of_few,
)
from export.quantize.cost import Cost, measure_cost
from export.quantize.ranges import Range, clip, measure_ranges
from export.quantize.rounding import LAST, Quantization, ReducedNet
from export.settings.export_options import ExportOptions
from export.settings.precision import BF16, HALF, PRECISIONS, Precision
from export.verify.float32_twin import check_twin, float32_twin
from export.verify.lint import lint
from export.verify.parity import (
    ParityResult,
    check_images,
    compare,
    judge_consistent,
    judge_exact,
    judge_reduced,
    judge_reference,
    reference_scores,
)
from export.weights_origin import recorded, source_lines, weights_identity
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import KEY, Artifact, data_path, manifest_path
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_net import open_net
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import OnnxRuntime, Scores, runtime_package
from vgg_deploy.runtimes.integer_kernels import check_arithmetic

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Exported:
    """One released file."""

    path: Path
    artifact: Artifact
    size: int  # bytes
    comparisons: list[ParityResult]  # with the float32 net
    kept: tuple[str, ...]  # convolutions of a quantized file that are not
    reference: str = "PyTorch"  # whom it was compared with
    cost: Cost | None = None  # of a quantized file


class FailedFile(NamedTuple):
    """One file that was not written."""

    name: str
    error: CheckFailed | InputError


class PartlyExported(CheckFailed):
    """Some of the wanted files failed. The message names those that were written and those that were not."""

    def __init__(self, exported: list[Exported], failures: list[FailedFile]):
        """Args: exported, files that were written; failures, at least one."""
        parts = [
            f"{f.name} was not written: {f.error.message.removeprefix(f'{f.name}: ')}"
            for f in failures
        ]
        if exported:
            verb = "were" if len(exported) > 1 else "was"
            parts.insert(0, f"{', '.join(e.path.name for e in exported)} {verb} written")
        super().__init__("; ".join(parts))
        self.exported = exported
        self.exit_code = min(
            f.error.exit_code for f in failures
        )  # a failed check says more than an unusable file


def export_onnx(
    source: Path,
    folder: Path,
    wanted: ExportOptions,
    classes: ClassList | None,
    threads: int,
    on_step: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
) -> list[Exported]:
    """Write `<arch>.<precision>.onnx` and its manifest for every precision, from a checkpoint or from foreign weights.

    Args:
        classes, stated: for foreign weights, see `open_net`.
        on_step: called with a sentence for each step and warning.
    Raises:
        InputError: for input that cannot be used; nothing is written then.
        PartlyExported: if files fail; the others are written.
    """
    _return_large_blocks()
    basis = _basis(source, folder, wanted, classes, threads, on_step, stated)
    exported, failures = [], []
    for name in wanted.precisions:
        precision = PRECISIONS[name]
        try:
            exported.append(
                _release(source, folder, wanted, precision, classes, basis, threads, on_step)
            )
        except (CheckFailed, InputError) as error:
            # its frames hold sessions, whose threads no process forked later has, and which it must not free
            error.__context__ = None
            failures.append(FailedFile(f"{basis.arch}.{name}.onnx", error.with_traceback(None)))
    if failures and not exported and all(isinstance(f.error, InputError) for f in failures):
        raise failures[0].error  # the place cannot be written
    if failures:
        raise PartlyExported(exported, failures)
    return exported


@dataclass(frozen=True, eq=False)
class _Basis:
    """What every file of one export is made and checked with."""

    arch: str
    source_sha256: str
    pictures: list[np.ndarray]  # batches (N, 3, H, W) uint8 of the check
    reference: list[Scores]  # the float32 net's
    ranges: dict[
        str, Range
    ]  # on the calibration images, or for half precision alone on those of the check
    calibration: Calibration | None
    quantizations: dict[str, Quantization]  # by precision
    held_out: "_HeldOut | None"  # where something is quantized
    stated: StatedInput  # of foreign weights
    record: dict[str, object]  # what was assumed of the source, for the manifest


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Calibration images that no range was measured on."""

    batches: list[np.ndarray]  # (N, 3, H, W) uint8, at the net's test scale
    reference: list[Scores]  # the float32 net's
    skipped: list[str]  # names of unreadable images


def _basis(
    source: Path,
    folder: Path,
    wanted: ExportOptions,
    classes: ClassList | None,
    threads: int,
    on_step: Callable[[str], None],
    stated: StatedInput,
) -> _Basis:
    on_step(f"reading {source}")
    noted: list[Assumed] = []
    net = open_net(source, classes, stated, noted.append)
    assumed = noted[0] if noted else None
    for line in source_lines(source, net.spec, classes, assumed):
        on_step(line)
    check_names("--keep", wanted.keep, net.spec.arch)
    digest, pictures, calibration, ranges, held_out = (
        sha256(source),
        check_images(net.spec.crop),
        None,
        {},
        None,
    )
    precisions = [PRECISIONS[name] for name in wanted.precisions]
    if any(p.activations for p in precisions):
        _refuse_keeping_all(wanted.keep, net)
    if wanted.calibration or any(p.activations for p in precisions):
        chosen = open_calibration_images(wanted.calibration, wanted.calibration_images, net)
        images = split(chosen)
        warn_of_few(chosen, on_step)
        kept = folder / f"{net.spec.arch}.calibration.json"
        calibration = calibrate(
            net,
            weights_identity(digest, assumed),
            images.for_ranges,
            kept,
            threads,
            on_step,
            wanted.on_error,
        )
        ranges = calibration.ranges
        if any(p.activations for p in precisions):
            held_out = _hold_out(net, images.held_out, threads, wanted.on_error, on_step)
    elif any(p.trunk == HALF for p in precisions):
        ranges = measure_ranges(net, iter(pictures))
    quantizations = {p.name: _quantization(wanted, p, ranges) for p in precisions if p.activations}
    on_step("PyTorch's scores of the check images")
    reference = reference_scores(net, pictures)
    doubt = judge_reference(reference, source)
    if doubt:
        on_step(doubt)
    return _Basis(
        arch=net.spec.arch,
        source_sha256=digest,
        pictures=pictures,
        reference=reference,
        ranges=ranges,
        calibration=calibration,
        quantizations=quantizations,
        held_out=held_out,
        stated=stated,
        record=recorded(source, net.spec, classes, assumed),
    )


def _hold_out(
    net: VGG, images: Dataset, threads: int, on_error: str, on_step: Callable[[str], None]
) -> _HeldOut:
    on_step(f"PyTorch's scores of {len(images)} held-out calibration images")
    batches, skipped = read_images(net, images, threads, on_error)
    if skipped:
        on_step(
            f"Warning: skipped {len(skipped)} of {len(images)} held-out images, unreadable: {', '.join(skipped)}"
        )
    if not batches:
        raise InputError(
            f"{images.root}: none of the {len(images)} held-out images can be read, e.g. {skipped[0]}"
        )
    return _HeldOut(batches, reference_scores(net, batches), skipped)


def _refuse_keeping_all(keep: tuple[str, ...], net: VGG) -> None:
    """Raises: InputError if nothing is left to quantize."""
    convs = {name for name, layer in net.named_children() if isinstance(layer, nn.Conv2d)}
    if not convs - {*keep, LAST}:
        raise InputError(
            f"--keep {','.join(keep)}: leaves no layer to quantize; keep fewer layers, or export a float precision"
        )


def _return_large_blocks() -> None:
    """Have glibc give large blocks, activations above all, back to the system when they are freed; it would keep some 150 MB for later."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if set_option:
        set_option(M_MMAP_THRESHOLD, 2**20)


def _release(
    source: Path,
    folder: Path,
    wanted: ExportOptions,
    precision: Precision,
    classes,
    basis: _Basis,
    threads: int,
    on_step,
) -> Exported:
    """One file, written, checked, named."""
    net = open_net(source, classes, basis.stated)
    artifact = Artifact(net.spec, wanted.form, precision.name, source.name, basis.source_sha256)
    quantization = basis.quantizations.get(precision.name)
    path = folder / f"{net.spec.arch}.{precision.name}.onnx"
    with _partials(path, wanted.external_data) as (partial, data):
        on_step(f"writing {path}")
        graph = onnx_graph(net, artifact, precision, quantization)
        if data:
            write_with_data(partial, graph, data, data_path(path).name)
        else:
            write_onnx(partial, graph)
        del graph
        on_step(f"checking {path.name} in onnx and ONNX Runtime")
        model, twin_scores, cost = read_referring(partial, data), None, None
        with beside(partial, model, ".check.onnx") as referring:
            check_file(referring)
            if precision.name != "fp32":
                twin_scores = _lint_and_check_twin(
                    model, partial, path, ReducedNet(net, precision, quantization), basis, threads
                )
            del net  # its weights and ONNX Runtime's need not be in memory together
            if precision.trunk == BF16:  # no CPU kernel runs it
                found = twin_scores
            else:
                if precision.fused:
                    check_arithmetic(
                        referring, basis.held_out.batches[0][:2], wanted.form, threads, path.name
                    )
                runtime = _as_it_will_run(referring, precision, threads)
                found = _scores(runtime, basis.pictures)
                if quantization:
                    on_step(f"measuring the cost of {path.name} on held-out images")
                    cost = _cost(runtime, basis.held_out, path.name)
                    _judge_cost(cost, wanted.max_cost, on_step, path.name)
                del runtime
        comparisons = compare(found, basis.reference, basis.pictures)
        if precision.name == "fp32":
            judge_exact(comparisons, path)
        judge_consistent(comparisons, path)
        if not quantization:
            judge_reduced(comparisons, precision.name, path)
        files = [file for file in (partial, data) if file]
        kept = tuple(dict.fromkeys((*wanted.keep, LAST))) if quantization else ()
        size = sum(f.stat().st_size for f in files)
        exported = Exported(path, artifact, size, comparisons, kept, cost=cost)
        manifest = _manifest(exported, partial, data, basis, quantization, wanted.method)
        manifest_path(path).unlink(
            missing_ok=True
        )  # of an older file; it must not speak for the new one
        if data:
            path.unlink(
                missing_ok=True
            )  # from here until both have their names there is no graph, rather than an old one over new weights
    if not data:
        data_path(path).unlink(missing_ok=True)  # of an older file
    write_text(manifest_path(path), json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return exported


def _as_it_will_run(path: Path, precision: Precision, threads: int) -> OnnxRuntime:
    """In ONNX Runtime. A file for its CPU kernels with the settings of use, for the check is of these kernels; others with less memory."""
    if precision.fused:
        return OnnxRuntime(path, threads=threads)
    return OnnxRuntime(path, threads=threads, optimisation="ENABLE_EXTENDED", arena=False)


def _cost(runtime: OnnxRuntime, held_out: _HeldOut, name: str) -> Cost:
    """What a quantized file costs on the held-out images. Args: name, of the file."""
    found = []
    with progress(name, sum(map(len, held_out.batches))) as bar:
        for batch in held_out.batches:
            found.append(runtime(batch))
            bar.advance(len(batch))
    return measure_cost(found, held_out.reference)


def _judge_cost(
    cost: Cost, max_cost: float | None, on_step: Callable[[str], None], name: str
) -> None:
    """Warn of a high cost.

    Args:
        max_cost: per cent, or None.
        name: of the file.
    Raises: CheckFailed if the file is broken or costs more than `max_cost`.
    """
    advice = "calibrate on more images, keep the layers that --sensitivity names, or take another precision"
    if cost.broken:
        raise CheckFailed(f"{cost.text()}; it is useless, because {cost.broken}; {advice}")
    if max_cost is not None and not cost.score_error_pct <= max_cost:
        raise CheckFailed(f"{cost.text()}; --max-cost allows {max_cost:g} %")
    if cost.rating == "high":
        on_step(f"Warning: {name} has a high cost: {cost.text()}; {advice}")


def _scores(runtime: OnnxRuntime, pictures: list[np.ndarray]) -> list[Scores]:
    """Largest batches first: they need most memory, and fc6's weights are then not yet read."""
    found = {
        i: runtime(pictures[i])
        for i in sorted(range(len(pictures)), key=lambda i: pictures[i].size, reverse=True)
    }
    return [found[i] for i in range(len(pictures))]


@contextmanager
def _partials(path: Path, external_data: bool) -> Iterator[tuple[Path, Path | None]]:
    """Names to write a graph and, if it is external, its data to; the data gets its final name first."""
    with whole_file(path) as partial:
        if not external_data:
            yield partial, None
            return
        with whole_file(data_path(path)) as data:
            yield partial, data


def _quantization(
    wanted: ExportOptions, precision: Precision, ranges: dict[str, Range]
) -> Quantization:
    thresholds = clip(ranges, wanted.method, precision)
    last = thresholds.pop(LAST)
    quantized = {name: t for name, t in thresholds.items() if name not in wanted.keep}
    return Quantization(quantized, wanted.per_channel, last if precision.fused else None)


def _lint_and_check_twin(
    model: onnx.ModelProto,
    partial: Path,
    path: Path,
    reduced: ReducedNet,
    basis: _Basis,
    threads: int,
) -> list[Scores]:
    """What a reduced file's float32 twin says of the check pictures. Changes `model`.

    Raises: CheckFailed if the lint or the twin finds something.
    """
    findings = lint(
        model, reduced.precision, set(reduced.mappings) - {LAST}, basis.ranges, partial.parent
    )
    if findings:
        raise CheckFailed("; ".join(findings))
    form = Artifact.from_json(
        {entry.key: entry.value for entry in model.metadata_props}[KEY], path.name
    ).input
    with float32_twin(model, partial) as twin:
        return check_twin(twin, reduced, form, basis.pictures, threads, path.name)


def check_names(option: str, names: tuple[str, ...], arch: str) -> None:
    """Raises: InputError for a layer that the net does not have."""
    convs = [conv.name for stage in (*ARCHS[arch].stages(), ARCHS[arch].head(1)) for conv in stage]
    for name in names:
        if name not in convs:
            raise InputError(
                f"{option} {name}: net {arch} has no such layer; choose from {', '.join(convs)}"
            )


def check_file(path: Path) -> None:
    """onnx's own full check, shape inference included, of a graph whose weights are elsewhere: onnx would read them twice.

    Raises: CheckFailed with the checker's reason.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"onnx refuses the graph: {error}") from error


def _manifest(
    exported: Exported,
    partial: Path,
    data: Path | None,
    basis: _Basis,
    quantization: Quantization | None,
    method: str,
) -> dict:
    manifest = {
        "file": exported.path.name,
        "sha256": sha256(partial),
        "bytes": partial.stat().st_size,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "opset": PRECISIONS[exported.artifact.precision].opset,
        "ir_version": IR_VERSION,
        **json.loads(exported.artifact.to_json()),
        **basis.record,
        "check": [asdict(c) for c in exported.comparisons],
        "versions": {
            name: version(name) for name in ("torch", "onnx", runtime_package("onnxruntime"))
        },
    }
    if data:
        manifest["data"] = {
            "file": data_path(exported.path).name,
            "sha256": sha256(data),
            "bytes": data.stat().st_size,
        }
    if basis.ranges and exported.artifact.precision != "fp32":
        manifest["ranges"] = {
            name: {"input_max": r.input_max, "output_max": r.output_max}
            for name, r in basis.ranges.items()
        }
    if quantization:
        c = basis.calibration
        manifest["quantization"] = {
            "thresholds": quantization.thresholds,
            "weights": "per-channel" if quantization.per_channel else "per-tensor",
            "largest_weight": PRECISIONS[
                exported.artifact.precision
            ].weights.largest,  # as it is stored
            "kept": exported.kept,
            "method": method,
            "calibration": {
                "data": c.data,
                "data_sha256": c.data_sha256,
                "images": c.images,
                "side": c.side,
                "skipped": [*c.skipped, *basis.held_out.skipped],
            },
        }
    if exported.cost:
        manifest["cost"] = exported.cost.rating
        manifest["held_out"] = cost_figures(exported.cost)
    return manifest


def cost_figures(cost: Cost) -> dict[str, float]:
    """The figures of a cost by name, without its judgement."""
    figures = asdict(cost)
    del figures["broken"]
    return figures
