"""Opens an ONNX file, or OpenVINO's own .xml and .bin, in OpenVINO on the CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN, check_manifest, weights_path
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.regular_files import is_regular
from vgg_deploy.runtimes.declared_interface import BYTES, FLOATS, Declared
from vgg_deploy.runtimes.openvino_integers import integer_weights, refuse_saturation
from vgg_deploy.runtimes.openvino_package import load_openvino
from vgg_deploy.runtimes.signal_stack import kept_signal_stack

IR = ".xml"  # the suffix of OpenVINO's own files; the weights are in a .bin beside it
IN_BFLOAT16 = "openvino-bf16"
UNQUANTIZED = ("fp32", "fp16", "bf16")
TYPES = {"u8": BYTES, "f32": FLOATS}  # OpenVINO's words -> ONNX's
NOISE = (
    *("Exception from ", "Check ", "FrontEnd API failed", "While validating"),
    *("Loading input model", "Converting input model", "Model wasn't fully converted"),
)


@dataclass(frozen=True, eq=False)
class OpenVinoModel:
    """A model that is read and not yet compiled.

    Attributes:
        library: The package.
        model: An openvino.Model.
        metadata: Its entries.
        inputs: Name -> type.
        outputs: Name -> type and shape.
        where: The file.
    """

    library: ModuleType
    model: Any
    metadata: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, Declared]
    where: str


@dataclass(frozen=True, eq=False)
class OpenVinoNet:
    """A compiled model.

    Attributes:
        request: Runs it; an openvino.InferRequest.
        ports: Outputs by name.
        precision: What it computes in, "fp32", ...
        settings: Options that can change results.
        failures: What OpenVINO raises.
        where: The file.
    """

    request: Any
    ports: dict[str, Any]
    precision: str
    settings: Mapping[str, str]
    failures: tuple[type[Exception], ...]
    where: str

    def __call__(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], what: str
    ) -> dict[str, object]:
        """Run a batch; OpenVINO computes all outputs that the file has.

        Args:
            feeds: Inputs by name, (N, 3, H, W) each.
            outputs: Names of those that are wanted.
            what: What N counts, such as "images".

        Returns:
            By name, in memory of their own.

        Raises:
            InputError: If OpenVINO cannot run it.
        """
        try:
            with kept_signal_stack():
                found = self.request.infer(dict(feeds))
        except self.failures as error:
            shape = next(iter(feeds.values())).shape
            raise InputError(
                f"{self.where}: OpenVINO cannot run it on {shape[0]} {what} of "
                f"{shape[2]}x{shape[3]} ({reason_of(error)}); "
                "export it again, or free memory if that is the reason"
            ) from None
        return {name: found[self.ports[name]] for name in outputs}


@kept_signal_stack()
def read_model(path: Path, device: str = "cpu") -> OpenVinoModel:
    """Read a file; its weights are copied, so that a file that shrinks later harms nothing.

    Args:
        path: An ONNX file written by vgg-export, or an .xml that OpenVINO wrote from one.
        device: "cpu".

    Raises:
        InputError: For another device, without the package, or for a file that OpenVINO refuses.
            Weights that are not beside the file are refused before OpenVINO sees it.
    """
    if device != "cpu":
        raise InputError(f"{path}: OpenVINO runs it on CPUs only", "run it on the CPU", "device")
    ov = load_openvino()
    if path.suffix == IR:
        _check_weights(path)
    else:
        data_files(path)
        check_manifest(path)
    kind = "ir" if path.suffix == IR else "onnx"
    try:
        # One frontend: a damaged file would be offered to all
        frontend = ov.frontend.FrontEndManager().load_by_framework(kind)
        model = frontend.convert(frontend.load(str(path), False))  # without mapping it
        metadata = _metadata(model)
        inputs = {name: kind for name, (kind, _) in _declared(model.inputs).items()}
        outputs = _declared(model.outputs)
    except failures_of(ov) as error:
        raise InputError(
            f"{path}: not a model that OpenVINO can load ({reason_of(error)})", EXPORT_AGAIN
        ) from None
    return OpenVinoModel(ov, model, metadata, inputs, outputs, str(path))


@kept_signal_stack()
def compile_model(
    opened: OpenVinoModel, stated: str, threads: int = 1, runtime: str = "openvino"
) -> OpenVinoNet:
    """Compile a model for images of any size.

    By itself OpenVINO would compute a float32 file in bfloat16 where the CPU has instructions for
    it. Here the file decides, or the runtime's name.

    Args:
        opened: The model.
        stated: The precision that its description states.
        threads: On the CPU.
        runtime: "openvino" or IN_BFLOAT16.

    Raises:
        InputError: If OpenVINO would compute in another precision than the one that is wanted, or
            in 8 bits wrongly; or if it refuses the model.
    """
    ov, where = opened.library, opened.where
    precision = stored_precision(opened.model, stated)
    if runtime == IN_BFLOAT16:
        if precision not in UNQUANTIZED:
            raise InputError(
                f"{where}: is {precision}, and {runtime} computes float files in bfloat16; "
                "use the runtime openvino, or a float32 file"
            )
        precision = "bf16"
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # the cores are shared with decoders and other runtimes
    }
    try:
        core = ov.Core()
        if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                f"{where}: OpenVINO has no bfloat16 instructions on this CPU and would compute in "
                "float32; use the float32 file and the runtime openvino, or a CPU with AVX512_BF16 "
                "or AMX"
            )
        refuse_saturation(ov, opened.model, where)
        compiled = core.compile_model(opened.model, "CPU", settings)
        request = compiled.create_infer_request()
        ports = {name: port for port in compiled.outputs for name in port.get_names()}
    except failures_of(ov) as error:
        raise InputError(
            f"{where}: not a model that OpenVINO can load ({reason_of(error)})", EXPORT_AGAIN
        ) from None
    told = {"inference_precision": hint}
    return OpenVinoNet(request, ports, precision, told, failures_of(ov), where)


def stored_precision(model: Any, stated: str) -> str:
    """What a model computes in, by its weights.

    Other programs keep the description of the file that they convert, and may change its weights:
    OpenVINO's save_model halves them, NNCF quantizes them.

    Args:
        model: An openvino.Model.
        stated: The precision that its description states.
    """
    if stated not in UNQUANTIZED:
        return stated
    operations = model.get_ordered_ops()
    if any(op.get_type_name() == "FakeQuantize" for op in operations) or integer_weights(model):
        return "int8"
    types = {
        op.get_element_type().get_type_name()
        for op in operations
        if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) > 1
    }
    return "fp16" if stated == "fp32" and "f16" in types else stated


def failures_of(ov: ModuleType) -> tuple[type[Exception], ...]:
    """What OpenVINO raises. Its own exceptions have no base class.

    Args:
        ov: The package.
    """
    frontend = ov.frontend
    return (
        RuntimeError,
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
        UnicodeDecodeError,  # from damaged names
    )


def reason_of(error: Exception) -> str:
    """The line of an error that says most; the others name OpenVINO's source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(NOISE)]
    return (telling or lines or [type(error).__name__])[0][:200]


def _check_weights(path: Path) -> None:
    weights = weights_path(path)
    if not is_regular(weights):
        raise InputError(
            f"{path}: its weights {weights.name} are not in the same folder; copy both files "
            "together"
        )


def _metadata(model: Any) -> dict[str, str]:
    """The entries of the ONNX file that a model was read or converted from."""
    if not model.has_rt_info(["framework"]):
        return {}
    entries = model.get_rt_info(["framework"])
    found = entries.value if hasattr(entries, "value") else entries
    if not isinstance(found, dict):
        return {}
    return {str(key): str(getattr(value, "value", value)) for key, value in found.items()}


def _declared(ports: Sequence[Any]) -> dict[str, Declared]:
    """Type and shape of inputs or outputs, by each of their names."""
    declared: dict[str, Declared] = {}
    for port in ports:
        kind = port.get_element_type().get_type_name()
        shape = [None if side.is_dynamic else side.get_length() for side in port.partial_shape]
        for name in port.get_names():
            declared[name] = (TYPES.get(kind, kind), shape)
    return declared
