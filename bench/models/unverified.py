"""Names files whose weights nothing verifies: damage would change numbers without a word."""

from collections.abc import Sequence
from pathlib import Path

from bench.models.model import Model
from vgg_deploy.exported.metadata import manifest_path
from vgg_deploy.net.torch_archive import is_archive
from vgg_deploy.net.torch_files import TORCH_SUFFIXES
from vgg_deploy.net.weights_suffixes import SAFETENSORS
from vgg_deploy.regular_files import is_regular


def unverified_lines(models: Sequence[Model]) -> list[str]:
    """One sentence per file without checksums.

    Args:
        models: All models of the run.
    """
    lines = []
    for path in dict.fromkeys(model.path for model in models):
        reason = _why(path)
        if reason:
            lines.append(f"{path}: {reason}, so damage of its weights would go unnoticed")
    return lines


def _why(path: Path) -> str:
    """Why a file cannot be verified; empty if it was."""
    if path.suffix == ".onnx" and not is_regular(manifest_path(path)):
        return f"has no {manifest_path(path).name} beside it"
    if path.suffix == ".xml":
        return "an .xml of OpenVINO has no checksums"
    if path.suffix == SAFETENSORS:
        return "a .safetensors has no checksums"
    if path.suffix in TORCH_SUFFIXES and not is_archive(path):
        return "a file from before torch 1.6 has no checksums"
    return ""
