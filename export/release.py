"""From a checkpoint to a checked file with its manifest; nothing gets its final name before it has passed."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx

from export.check import Comparison, check_pictures, compare, judge, reference_scores
from export.graph import IR_VERSION, OPSET, onnx_graph
from export.onnx_file import write_onnx
from vgg_deploy.artifact import Artifact, manifest_path
from vgg_deploy.classes import ClassList
from vgg_deploy.errors import CheckFailed
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.nets import open_net
from vgg_deploy.runtimes import OnnxRuntime


@dataclass(frozen=True)
class Exported:
    """One released file."""

    path: Path
    artifact: Artifact
    size: int  # bytes
    comparisons: list[Comparison]


def export_onnx(source: Path, folder: Path, form: str, classes: ClassList | None, threads: int, on_step: Callable[[str], None]) -> Exported:
    """Write `<arch>.fp32.onnx` and its manifest from a checkpoint or from foreign weights.

    Args: form, one of INPUT_FORMS; classes, for foreign weights; on_step, told what begins.
    Raises: InputError for unusable input or output; CheckFailed if the file is not the net, and then leaves no file.
    """
    on_step(f"reading {source}")
    net = open_net(source, classes)
    artifact = Artifact(net.spec, form, "fp32", source.name, sha256(source))
    path = folder / f"{net.spec.arch}.fp32.onnx"
    with whole_file(path) as partial:
        on_step(f"writing {path}")
        write_onnx(partial, onnx_graph(net, artifact))
        on_step("PyTorch's scores of the check pictures")
        pictures = check_pictures(net.spec.crop)
        reference = reference_scores(net, pictures)
        del net  # its weights and ONNX Runtime's need not be in memory together
        on_step("checking the file in onnx and ONNX Runtime")
        check_file(partial)
        comparisons = compare(OnnxRuntime(partial, threads=threads, optimisation="EXTENDED"), pictures, reference)
        judge(comparisons, artifact.precision, path)
        exported = Exported(path, artifact, partial.stat().st_size, comparisons)
        manifest_path(path).unlink(missing_ok=True)  # of an older file; it must not speak for the new one
        manifest = json.dumps(_manifest(exported, sha256(partial)), indent=2, ensure_ascii=False) + "\n"
    write_text(manifest_path(path), manifest)
    return exported


def check_file(path: Path) -> None:
    """onnx's own full check, shape inference included.

    Raises: CheckFailed with the checker's reason.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"onnx refuses the graph: {error}") from error


def _manifest(exported: Exported, digest: str) -> dict:
    return {
        "file": exported.path.name,
        "sha256": digest,
        "bytes": exported.size,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "opset": OPSET,
        "ir_version": IR_VERSION,
        **json.loads(exported.artifact.to_json()),
        "check": [asdict(c) for c in exported.comparisons],
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime-gpu")},
    }
