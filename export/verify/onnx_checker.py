"""Runs onnx's own check of a graph."""

from pathlib import Path

import onnx

from vgg_deploy.errors import CheckFailed


def check_onnx(path: Path) -> None:
    """Run onnx's full check, with shape inference.

    Args:
        path: A graph that refers to its weights in another file; onnx would read weights inside
            the file twice.

    Raises:
        CheckFailed: With the checker's reason.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"onnx refuses the graph: {error}") from error
