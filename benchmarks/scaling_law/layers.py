"""Measures how long each group of layers takes within one call."""

import json
import re
import tempfile
import time
from pathlib import Path

from scaling_law.work import GROUPS, OTHER, InputShape, images_of
from torch import nn

from vgg_deploy.runtimes.pytorch import TorchRuntime

LayerSeconds = dict[InputShape, dict[str, float]]  # seconds of each of GROUPS and of OTHER


def group_of(layer: str) -> str:
    """The group of a layer.

    Args:
        layer: "conv3_2" or "fc6", or ONNX Runtime's name for a fused node: "relu3_2...",
            "relu6...", "score_map...".

    Returns:
        One of GROUPS.
    """
    if layer.startswith("score_map"):
        return "fc7, fc8"
    number = re.match(r"(?:conv|relu|fc)(\d)", layer).group(1)
    return {"6": "fc6", "7": "fc7, fc8", "8": "fc7, fc8"}.get(number, f"stage {number}")


def onnxruntime_layers(path: Path, shapes: list[InputShape], threads: int) -> LayerSeconds:
    """Seconds of each group in the second call at every shape, from ONNX Runtime's profiler."""
    import onnxruntime as ort  # here, after vgg_deploy has turned its telemetry off

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = threads, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for shape in shapes:
            for _ in range(2):
                session.run(["posterior", "score_map"], {"image": images_of(shape)})
        events = json.loads(Path(session.end_profiling()).read_text())
    calls = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")
    kernels = [
        event
        for event in events
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time")
    ]
    seconds = {}
    for shape, (start, duration) in zip(shapes, calls[1::2], strict=True):
        groups = dict.fromkeys((*GROUPS, OTHER), 0.0)
        for event in kernels:
            if start <= event["ts"] <= start + duration:
                is_layer = event["args"]["op_name"] == "Conv"
                group = group_of(event["name"]) if is_layer else OTHER
                groups[group] += event["dur"] / 1e6
        seconds[shape] = groups
    return seconds


class LayerClock:
    """Times a layer in every forward pass; the last pass counts."""

    def __init__(self, layer: nn.Module) -> None:
        self.start = self.seconds = 0.0
        layer.register_forward_pre_hook(self._before)
        layer.register_forward_hook(self._after)

    def _before(self, *_: object) -> None:
        self.start = time.perf_counter()

    def _after(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def torch_layers(runtime: TorchRuntime, shapes: list[InputShape]) -> LayerSeconds:
    """Seconds of each group in the second call at every shape, from hooks on the CPU."""
    clocks = {
        name: LayerClock(layer)
        for name, layer in runtime.forward.net.named_children()
        if name.startswith(("conv", "fc"))
    }
    seconds = {}
    for shape in shapes:
        for _ in range(2):
            images = images_of(shape)
            start = time.perf_counter()
            runtime(images)
            whole = time.perf_counter() - start
        groups = dict.fromkeys(GROUPS, 0.0)
        for name, clock in clocks.items():
            groups[group_of(name)] += clock.seconds
        seconds[shape] = {**groups, OTHER: whole - sum(groups.values())}
    return seconds
