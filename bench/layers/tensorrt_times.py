"""Times the layers of a TensorRT engine by TensorRT's own profiler."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.layers.contract import NotSeparable, PartTimes
from bench.layers.parts import INPUT, LAYOUT, POSTERIOR, Part, owners, parts_of
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.tensorrt import EngineRuntime

LAYER = re.compile(r"(?:conv|relu|norm|pool|fc)\d(?:_\d)?(?!\d)")
BEFORE = ("to_float", "subtract_mean", "denormalise", "move_mean")
AFTER = ("mean_score", "softmax")
LAST = "score_map"


class EngineTimer:
    """Asks TensorRT for the time of each of its layers, whose names list the nodes in them."""

    how = "TensorRT's IProfiler"

    def __init__(self, runtime: EngineRuntime):
        """Take over an engine.

        Args:
            runtime: The engine.
        """
        self.runtime = runtime
        trt = FLAVOURS[runtime.manifest.flavour].load()
        self._profiler = _profiler(trt)
        for context in runtime.contexts:
            context.profiler = self._profiler
        self._calls: list[Mapping[str, float]] = []

    def __call__(self, images: np.ndarray) -> None:
        """Score a batch, as `LayerTimer`."""
        self._profiler.ms.clear()
        self.runtime(images)
        self._calls.append(dict(self._profiler.ms))

    def forget(self) -> None:
        """As `LayerTimer`."""
        self._calls.clear()

    def finish(self) -> list[PartTimes]:
        """As `LayerTimer`.

        Raises:
            NotSeparable: If the engine's layers have no names of the net's layers.
        """
        for context in self.runtime.contexts:
            context.profiler = None
        return engine_part_times(self._calls, layer_names(self.runtime.spec))


def engine_part_times(calls: list[Mapping[str, float]], layers: tuple[str, ...]) -> list[PartTimes]:
    """Add the times of TensorRT's layers up by the part of the net that they are.

    Args:
        calls: Milliseconds by the name of TensorRT's layer, call by call; at least one.
        layers: Names of the net's layers, in running order.

    Raises:
        NotSeparable: If no name has a name of the net's layers in it.
    """
    first = {name: _first(name) for call in calls for name in call}
    if not any(place in layers for place in first.values()):
        raise NotSeparable("its layers in TensorRT have no names of the net's layers")
    parts = parts_of(layers, {place for place in first.values() if place in layers})
    part_of = {**owners(parts), INPUT: (INPUT,), POSTERIOR: (POSTERIOR,), LAYOUT: (LAYOUT,)}
    rows: dict[Part, np.ndarray] = defaultdict(lambda: np.zeros(len(calls)))
    for index, call in enumerate(calls):
        for name, ms in call.items():
            rows[part_of[first[name]]][index] += ms
    order = [(INPUT,), *parts, (POSTERIOR,), (LAYOUT,)]
    return [PartTimes(part, rows[part]) for part in order if part in rows]


def _first(name: str) -> str:
    """The first layer in the name of one of TensorRT's, or one of AROUND."""
    if found := LAYER.search(name):
        return found[0]
    if LAST in name:
        return "fc8"
    if any(part in name for part in BEFORE):
        return INPUT
    return POSTERIOR if any(part in name for part in AFTER) else LAYOUT


def _profiler(trt: Any) -> Any:
    """An object that collects what TensorRT reports."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]  # its base is known at run time only
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.ms: dict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.ms[layer_name] += ms

    return Profiler()
