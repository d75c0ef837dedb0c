"""From a checkpoint to checked files with their manifests; nothing gets its final name before it has passed."""

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from export.calibration import Calibration, calibrate, calibration_pictures
from export.check import Comparison, check_pictures, compare, judge_cost, judge_exact, reference_scores
from export.graph import IR_VERSION, onnx_graph
from export.lint import lint
from export.onnx_file import beside, read_referring, write_onnx, write_with_data
from export.precision import BF16, HALF, PRECISIONS, Precision
from export.quantization import LAST, Quantization, ReducedNet
from export.ranges import Range, clip, measure_ranges
from export.stated import recorded, source_lines, weights_identity
from export.twin import check_twin, float32_twin
from vgg_deploy.archs import ARCHS
from vgg_deploy.artifact import KEY, Artifact, data_path, manifest_path
from vgg_deploy.classes import ClassList
from vgg_deploy.convention import SAYS_NOTHING, StatedInput
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.nets import open_net
from vgg_deploy.runtimes import OnnxRuntime, Scores
from vgg_deploy.weights import Assumed

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Wanted:
    """What to write."""

    precisions: tuple[str, ...]  # names of PRECISIONS
    form: str = "uint8"  # one of INPUT_FORMS
    keep: tuple[str, ...] = ()  # convolutions that are not quantized
    per_channel: bool = True  # scales of quantized weights
    calibration: Path | str | None = None  # folder or shards of pictures; None: the built-in ones
    calibration_images: int = 512
    method: str = "max"  # one of METHODS
    external_data: bool = False  # weights in a file of their own beside the graph


@dataclass(frozen=True)
class Exported:
    """One released file."""

    path: Path
    artifact: Artifact
    size: int  # bytes
    comparisons: list[Comparison]  # with the float32 net
    kept: tuple[str, ...]  # convolutions of a quantized file that are not
    reference: str = "PyTorch"  # whom it was compared with


def export_onnx(
    source: Path,
    folder: Path,
    wanted: Wanted,
    classes: ClassList | None,
    threads: int,
    on_step: Callable[[str], None],
    stated: StatedInput = SAYS_NOTHING,
) -> list[Exported]:
    """Write `<arch>.<precision>.onnx` and its manifest for every precision, from a checkpoint or from foreign weights.

    Args: classes, stated, for foreign weights, see `open_net`; on_step, told what begins.
    Raises: InputError for unusable input or output; CheckFailed if a file is not the net, and then leaves no such file.
    """
    _return_large_blocks()
    basis = _basis(source, folder, wanted, classes, threads, on_step, stated)
    return [_release(source, folder, wanted, PRECISIONS[name], classes, basis, threads, on_step) for name in wanted.precisions]


@dataclass(frozen=True, eq=False)
class _Basis:
    """What every file of one export is made and checked with."""

    source_sha256: str
    pictures: list[np.ndarray]  # batches (N, 3, H, W) uint8 of the check
    reference: list[Scores]  # the float32 net's
    ranges: dict[str, Range]  # on the calibration pictures, or for half precision alone on those of the check
    calibration: Calibration | None
    stated: StatedInput  # of foreign weights
    record: dict[str, object]  # what was assumed of the source, for the manifest


def _basis(
    source: Path,
    folder: Path,
    wanted: Wanted,
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
    digest, pictures, calibration, ranges = sha256(source), check_pictures(net.spec.crop), None, {}
    precisions = [PRECISIONS[name] for name in wanted.precisions]
    if wanted.calibration or any(p.activations for p in precisions):
        chosen = calibration_pictures(wanted.calibration, wanted.calibration_images, net)
        calibration = calibrate(net, weights_identity(digest, assumed), chosen, folder / f"{net.spec.arch}.calibration.json", threads, on_step)
        ranges = calibration.ranges
    elif any(p.trunk == HALF for p in precisions):
        ranges = measure_ranges(net, iter(pictures))
    on_step("PyTorch's scores of the check pictures")
    return _Basis(digest, pictures, reference_scores(net, pictures), ranges, calibration, stated, recorded(source, net.spec, classes, assumed))


def _return_large_blocks() -> None:
    """Have glibc give large blocks, activations above all, back to the system when they are freed; it would keep some 150 MB for later."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if set_option:
        set_option(M_MMAP_THRESHOLD, 2**20)


def _release(source: Path, folder: Path, wanted: Wanted, precision: Precision, classes, basis: _Basis, threads: int, on_step) -> Exported:
    """One file, written, checked, named."""
    net = open_net(source, classes, basis.stated)
    artifact = Artifact(net.spec, wanted.form, precision.name, source.name, basis.source_sha256)
    quantization = _quantization(wanted, precision, basis.ranges)
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
        model, twin_scores = read_referring(partial, data), None
        with beside(partial, model, ".check.onnx") as referring:
            check_file(referring)
            if precision.name != "fp32":
                twin_scores = _lint_and_check_twin(model, partial, path, ReducedNet(net, precision, quantization), basis, threads)
            del net  # its weights and ONNX Runtime's need not be in memory together
            if precision.trunk == BF16:  # no CPU kernel runs it
                found = twin_scores
            else:
                found = _scores(OnnxRuntime(referring, threads=threads, optimisation="ENABLE_EXTENDED", arena=False), basis.pictures)
        comparisons = compare(found, basis.reference, basis.pictures)
        if precision.name == "fp32":
            judge_exact(comparisons, path)
        judge_cost(comparisons, precision.name, path)
        files = [file for file in (partial, data) if file]
        exported = Exported(path, artifact, sum(f.stat().st_size for f in files), comparisons, (*wanted.keep, LAST) if quantization else ())
        manifest = _manifest(exported, partial, data, basis, quantization, wanted.method)
        manifest_path(path).unlink(missing_ok=True)  # of an older file; it must not speak for the new one
        if data:
            path.unlink(missing_ok=True)  # from here until both have their names there is no graph, rather than an old one over new weights
    if not data:
        data_path(path).unlink(missing_ok=True)  # of an older file
    write_text(manifest_path(path), json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return exported


def _scores(runtime: OnnxRuntime, pictures: list[np.ndarray]) -> list[Scores]:
    """Largest batches first: they need most memory, and fc6's weights are then not yet read."""
    found = {i: runtime(pictures[i]) for i in sorted(range(len(pictures)), key=lambda i: pictures[i].size, reverse=True)}
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


def _quantization(wanted: Wanted, precision: Precision, ranges: dict[str, Range]) -> Quantization | None:
    if not precision.activations:
        return None
    thresholds = clip(ranges, wanted.method, precision)
    last = thresholds.pop(LAST)
    quantized = {name: t for name, t in thresholds.items() if name not in wanted.keep}
    return Quantization(quantized, wanted.per_channel, last if precision.fused else None)


def _lint_and_check_twin(model: onnx.ModelProto, partial: Path, path: Path, reduced: ReducedNet, basis: _Basis, threads: int) -> list[Scores]:
    """What a reduced file's float32 twin says of the check pictures. Changes `model`.

    Raises: CheckFailed if the lint or the twin finds something.
    """
    findings = lint(model, reduced.precision, set(reduced.mappings) - {LAST}, basis.ranges)
    if findings:
        raise CheckFailed(f"{path.name}: {'; '.join(findings)}. Nothing was written")
    form = Artifact.from_json({entry.key: entry.value for entry in model.metadata_props}[KEY], path.name).input
    with float32_twin(model, partial) as twin:
        return check_twin(twin, reduced, form, basis.pictures, threads, path.name)


def check_names(option: str, names: tuple[str, ...], arch: str) -> None:
    """Raises: InputError for a layer that the net does not have."""
    convs = [conv.name for stage in (*ARCHS[arch].stages(), ARCHS[arch].head(1)) for conv in stage]
    for name in names:
        if name not in convs:
            raise InputError(f"{option} {name}: net {arch} has no such layer; choose from {', '.join(convs)}")


def check_file(path: Path) -> None:
    """onnx's own full check, shape inference included, of a graph whose weights are elsewhere: onnx would read them twice.

    Raises: CheckFailed with the checker's reason.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"onnx refuses the graph: {error}") from error


def _manifest(exported: Exported, partial: Path, data: Path | None, basis: _Basis, quantization: Quantization | None, method: str) -> dict:
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
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime-gpu")},
    }
    if data:
        manifest["data"] = {"file": data_path(exported.path).name, "sha256": sha256(data), "bytes": data.stat().st_size}
    if basis.ranges and exported.artifact.precision != "fp32":
        manifest["ranges"] = {name: {"input_max": r.input_max, "output_max": r.output_max} for name, r in basis.ranges.items()}
    if quantization:
        c = basis.calibration
        manifest["quantization"] = {
            "thresholds": quantization.thresholds,
            "weights": "per-channel" if quantization.per_channel else "per-tensor",
            "kept": exported.kept,
            "method": method,
            "calibration": {"data": c.data, "data_sha256": c.data_sha256, "images": c.images, "side": c.side},
        }
    return manifest
