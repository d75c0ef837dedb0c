"""Shows the values between the layers of an ONNX file in ONNX Runtime.

The values become outputs of a copy of the file in memory. That must not change what ONNX Runtime
fuses, so each value is taken behind what the file's own session computes at once. Whether the copy
still computes the same nodes is looked up in the profiles of both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from bench.layers.contract import Rounding
from bench.layers.node_times import Node, computing, parts_in
from bench.layers.onnx_parts import ALONE, FLOATS, VALUES, FileGraph, Value
from bench.layers.onnx_sessions import profile_folder, reopened
from bench.layers.onnx_times import end_profile
from bench.layers.parts import Part, part_name
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.contract import feed
from vgg_deploy.runtimes.onnx_session import run_failure
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

INTEGERS = "QLinearConv"  # the operator of convolutions that end in 8 bits


class OnnxValues:
    """A copy of a file, whose outputs are the values between its layers."""

    def __init__(self, runtime: OnnxRuntime):
        """Read the file and open the copy.

        Args:
            runtime: The file.

        Raises:
            InputError: If the file cannot be read again.
            NotSeparable: If its graph is not one that vgg-export writes.
        """
        self.runtime = runtime
        layers = layer_names(runtime.spec)
        self.graph = FileGraph(_read(runtime), layers)
        own = self._profile(runtime.where)
        self.parts: Sequence[Part] = parts_in(own, layers)
        fused = any(node.op == INTEGERS for node in own)
        self._shown = [self._shown_behind(part, fused) for part in self.parts]
        self._alone: tuple[Part, Any] | None = None
        copy = self._tapped()
        self._session = reopened(runtime, copy)
        self.note = _note(computing(own), computing(self._profile(copy)))

    def all_values(self, images: np.ndarray) -> list[np.ndarray]:
        """As `LayerValues`."""
        found = self._run(self._session, {"image": self._fed(images)}, images.shape)
        values = dict(zip((o.name for o in self._session.get_outputs()), found, strict=True))
        return [_as_floats(values[_tap(shown)], shown) for shown in self._shown]

    def alone(self, part: Part, values: np.ndarray) -> np.ndarray:
        """As `LayerValues`: 8-bit values as stored, their sums in float32."""
        if self._alone is None or self._alone[0] != part:
            self._alone = None  # the weights of one part at a time
            self._alone = (
                part,
                reopened(self.runtime, self.graph.model_of(part).SerializeToString()),
            )
        feeds = {VALUES: np.ascontiguousarray(values, np.float32)}
        found: np.ndarray = self._run(self._alone[1], feeds, values.shape, [ALONE])[0]
        return found

    def rounding(self, part: Part) -> Rounding:
        """As `LayerValues`."""
        return self.graph.rounding(part, self._shown[list(self.parts).index(part)])

    def _shown_behind(self, part: Part, fused: bool) -> Value:
        """The value behind a part; that in 8 bits where kernels end in 8 bits."""
        last = part[-1]
        return (
            self.graph.rounded.get(last, self.graph.gives[last])
            if fused
            else self.graph.gives[last]
        )

    def _tapped(self) -> bytes:
        """The copy of the file."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.graph.model)
        del copy.graph.output[:]
        for shown in self._shown:
            kind = int(TensorProto.FLOAT) if shown.kind in FLOATS else shown.kind
            if _tap(shown) != shown.name:
                node = helper.make_node("Cast", [shown.name], [_tap(shown)], to=kind)
                copy.graph.node.append(node)
            copy.graph.output.append(helper.make_tensor_value_info(_tap(shown), kind, None))
        # what follows the last layer stays as it is
        last = self.graph.model.graph.output
        named = {output.name for output in copy.graph.output}
        copy.graph.output.extend(output for output in last if output.name not in named)
        serialised: bytes = copy.SerializeToString()
        return serialised

    def _fed(self, images: np.ndarray) -> np.ndarray:
        return feed(torch.from_numpy(images), self.runtime.artifact.input).numpy()

    def _profile(self, model: str | bytes) -> list[Node]:
        """The nodes of one call, as ONNX Runtime has rewritten them."""
        with profile_folder() as folder:
            session = reopened(self.runtime, model, Path(folder) / "call")
            crop = self.runtime.spec.crop
            images = np.zeros((1, 3, crop, crop), np.uint8)
            self._run(session, {"image": self._fed(images)}, images.shape)
            return end_profile(session)[0]

    def _run(
        self,
        session: Any,
        feeds: dict[str, np.ndarray],
        shape: Sequence[int],
        outputs: list[str] | None = None,
    ) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = session.run(outputs, feeds)
        except self.runtime.failures as error:
            raise run_failure(self.runtime.where, shape, "images", error) from None
        return found


def _read(runtime: OnnxRuntime) -> onnx.ModelProto:
    try:
        return onnx.load(runtime.where)
    except (DecodeError, OSError, ValueError) as error:
        raise InputError(f"{runtime.where}: cannot be read again ({error})", EXPORT_AGAIN) from None


def _tap(shown: Value) -> str:
    """Name of the output that shows a value; half precision is shown as float32."""
    return (
        shown.name
        if shown.kind not in FLOATS or shown.kind == TensorProto.FLOAT
        else f"{shown.name}.shown"
    )


def _as_floats(values: np.ndarray, shown: Value) -> np.ndarray:
    if shown.levels is None:
        return values
    scale, zero, _, _ = shown.levels
    floats: np.ndarray = (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return floats


def _note(own: Sequence[tuple[str, str]], copy: Sequence[tuple[str, str]]) -> str:
    """A sentence if a copy computes other nodes than the file."""
    if list(own) == list(copy):
        return ""
    changed = dict.fromkeys(layer for layer, _ in set(own) ^ set(copy))
    return (
        "showing its values changes how ONNX Runtime computes "
        f"{part_name(tuple(changed)) or 'it'}; the errors are of the changed copy"
    )
