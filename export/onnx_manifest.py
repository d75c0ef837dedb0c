"""Describes an exported ONNX file in its manifest: its source, its checks, its quantization."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from export.onnx.graph import IR_VERSIONS
from export.preparation import Prepared, Quantized
from export.quantize.rounding import Quantization
from export.released_files import Exported
from export.settings.precision import PRECISIONS, Precision
from vgg_deploy.exported.metadata import data_path
from vgg_deploy.files import sha256
from vgg_deploy.runtimes import runtime_package

PACKAGES = ("torch", "onnx")  # whose versions are recorded, with ONNX Runtime's


def onnx_manifest(
    exported: Exported,
    graph: Path,
    data: Path | None,
    prepared: Prepared,
    method: str,
    opset: int | None,
) -> dict[str, object]:
    """Describe a file.

    Args:
        exported: The file under its final name.
        graph: The file as it was written.
        data: The separate file of its weights as it was written, if it has one.
        prepared: What it was made and checked with.
        method: Where activations are clipped, one of METHOD_NAMES.
        opset: ONNX operator set; None: the precision's own.
    """
    precision = PRECISIONS[exported.artifact.precision].at(opset)
    manifest: dict[str, object] = {
        "file": exported.path.name,
        "sha256": sha256(graph),
        "bytes": graph.stat().st_size,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "opset": precision.opset,
        "ir_version": IR_VERSIONS[precision.opset],
        **json.loads(exported.artifact.to_json()),
        **prepared.record,
        "check_of": exported.checked,
        "check": [asdict(comparison) for comparison in exported.comparisons],
        "check_features": [asdict(comparison) for comparison in exported.features],
        "versions": {name: version(name) for name in (*PACKAGES, runtime_package("onnxruntime"))},
    }
    if exported.rescaled:
        manifest["rescale"] = {**asdict(exported.rescaled), "pillow": version("pillow")}
    if data:
        manifest["data"] = {
            "file": data_path(exported.path).name,
            "sha256": sha256(data),
            "bytes": data.stat().st_size,
        }
    if prepared.ranges and precision.name != "fp32":
        manifest["ranges"] = {
            name: {"input_max": seen.input_max, "output_max": seen.output_max}
            for name, seen in prepared.ranges.items()
        }
    if prepared.quantized and precision.is_quantized:
        manifest["quantization"] = describe_quantization(
            prepared.quantized, precision, exported.kept, method
        )
    if exported.limit:
        manifest["limit"] = exported.limit.document()
    if prepared.factors:
        manifest["low_rank"] = {
            name: {"rank": len(found.first), "variance_kept": found.kept}
            for name, found in prepared.factors.items()
        }
    if exported.rating:
        manifest["cost"] = exported.rating
    if exported.cost:
        manifest["held_out"] = exported.cost.figures()
    if exported.feature_costs:
        manifest["held_out_features"] = [asdict(cost) for cost in exported.feature_costs]
    return manifest


def describe_quantization(
    quantized: Quantized, precision: Precision, kept: tuple[str, ...], method: str
) -> dict[str, object]:
    """The part of a manifest that says how a file is quantized.

    Args:
        quantized: What the file is made with.
        precision: Of the file.
        kept: Convolutions that are not quantized.
        method: Where activations are clipped, one of METHOD_NAMES.
    """
    quantization: Quantization = quantized.quantizations[precision.name]
    calibration = quantized.calibration
    blocks = {name: weight.block for name, weight in quantization.blocks.items()}
    return {
        **({"four_bit_blocks": blocks} if blocks else {}),
        "thresholds": quantization.thresholds,
        "weights": "per-channel" if quantization.per_channel else "per-tensor",
        "largest_weight": precision.weight_format.largest,  # as it is stored
        "kept": kept,
        "method": method,
        "calibration": {
            "data": calibration.data,
            "data_sha256": calibration.data_sha256,
            "images": calibration.images,
            "side": calibration.side,
            "skipped": [*calibration.skipped, *quantized.held_out.skipped],
        },
    }
