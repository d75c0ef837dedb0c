"""Lists the evaluations that are compared, for each view."""

from typing import NamedTuple

LOOP = "ONNX Runtime loop fp32"  # the plain loop
TORCH, FP32, INT8 = "ours, PyTorch fp32", "ours, ONNX Runtime fp32", "ours, ONNX Runtime int8"


class Evaluation(NamedTuple):
    """One row of a view."""

    name: str
    script: str  # a script of benchmarks/peers
    file: str  # a key of `Settings.files`
    ours: str = ""  # our row that it is compared with; empty for our own rows
    precision: str = "fp32"


OURS = (
    Evaluation(TORCH, "ours", "weights"),
    Evaluation(FP32, "ours", "fp32"),
    Evaluation("ours, ncnn fp32", "ours", "ncnn"),
    Evaluation(INT8, "ours", "int8-cpu"),
)
PLAIN_LOOP = Evaluation(LOOP, "onnxruntime_loop", "fp32", FP32)
POLYGRAPHY = Evaluation("Polygraphy runner", "polygraphy_runner", "fp32", FP32)
OPENVINO = (
    Evaluation("OpenVINO fp32", "openvino_loop", "fp32", FP32, "fp32"),
    Evaluation("OpenVINO bf16", "openvino_loop", "fp32", FP32, "bf16"),
    Evaluation("OpenVINO int8", "openvino_loop", "int8-cpu", INT8, "fp32"),
)
BENCHMARK_APP = (
    Evaluation("OpenVINO benchmark_app fp32", "openvino_benchmark_app", "fp32", FP32, "fp32"),
    Evaluation("OpenVINO benchmark_app bf16", "openvino_benchmark_app", "fp32", FP32, "bf16"),
    Evaluation("OpenVINO benchmark_app int8", "openvino_benchmark_app", "int8-cpu", INT8, "fp32"),
)
VIEWS = {
    "crop": (
        *OURS,
        Evaluation("timm validate", "timm_validate", "weights", TORCH),
        Evaluation("torchvision evaluate", "torchvision_evaluate", "weights", TORCH),
        Evaluation("timm onnx_validate", "timm_onnx_validate", "normalised", FP32),
        PLAIN_LOOP,
        POLYGRAPHY,
        *OPENVINO,
    ),
    "dense": (*OURS, PLAIN_LOOP, POLYGRAPHY, *OPENVINO),
    "net": (*OURS, PLAIN_LOOP, *BENCHMARK_APP),
}


def select(views: list[str], words: list[str]) -> dict[str, tuple[Evaluation, ...]]:
    """The evaluations to run.

    Args:
        views: Keys of VIEWS.
        words: Parts of names. Only evaluations with one of them in their name are selected, and
            those that they are compared with. All evaluations if empty.

    Returns:
        The selected evaluations of each view.
    """
    if not words:
        return {view: VIEWS[view] for view in views}
    selected = {}
    for view in views:
        by_name = {evaluation.name: evaluation for evaluation in VIEWS[view]}
        names = {LOOP, *(name for name in by_name if any(word in name for word in words))}
        names |= {by_name[name].ours for name in names}
        selected[view] = tuple(by_name[name] for name in by_name if name in names)
    return selected
