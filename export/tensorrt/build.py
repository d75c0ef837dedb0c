"""Builds a TensorRT engine from an ONNX file of ours, and checks what was built."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from export.tensorrt.targets import pick_targets
from vgg_deploy.cache import cache_folder, or_uncached
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import check_manifest, manifest_path
from vgg_deploy.exported.onnx_metadata import read_description
from vgg_deploy.exported.trt_manifest import EngineManifest, Profile, read_engine_manifest
from vgg_deploy.exported.trt_packages import Flavour, collecting_logger, errors_of
from vgg_deploy.files import sha256, whole_file, whole_files
from vgg_deploy.progress import elapsed

LESS_MEMORY = "lower --max-batch or --scales"
# By words in TensorRT's messages: what helps
ADVICE = {
    "not self-consistent": (
        "the profile's smallest shape has no score map; raise --scales to the net's crop or above"
    ),
    "no optimization profile": "give --scales, so that the engine knows its shapes",
    "Cannot compile for target": (
        "that GPU lacks the type; leave it out of --target, or take another --precision"
    ),
    "Could not find any implementation": (
        "often this means that memory ran out while kernels were tried; "
        f"free GPU memory, or {LESS_MEMORY}"
    ),
    "out of memory": f"{LESS_MEMORY}, or free GPU memory",
    "OutOfMemory": f"{LESS_MEMORY}, or free GPU memory",
}
OTHER_ADVICE = "see its words above; another --max-batch or --scales may work"
FATAL_WARNINGS = ("not self-consistent",)  # warnings of TensorRT that are errors here
TYPE_OF = {  # of a precision's convolutions
    "fp32": "FLOAT",
    "fp16": "HALF",
    "bf16": "BF16",
    "int8": "INT8",
    "fp8": "FP8",
    "int4": "INT8",  # fc6 and fc7 are products
}


@dataclass(frozen=True)
class BuiltEngine:
    """One engine that passed its checks and has its final name."""

    path: Path
    manifest: EngineManifest


class _ParsedFile(NamedTuple):
    """An ONNX file as TensorRT parsed it. TensorRT has no types of its own.

    Attributes:
        trt: TensorRT's module.
        log: Of `collecting_logger`.
        builder: An IBuilder.
        network: An INetworkDefinition.
        parser: An OnnxParser; it owns the weights of the network and must live as long.
    """

    trt: ModuleType
    log: Any
    builder: Any
    network: Any
    parser: Any


def build_engine(
    path: Path,
    flavour: Flavour,
    profiles: list[Profile],
    wanted_targets: tuple[str, ...],
    log: Callable[[str], None],
) -> BuiltEngine:
    """Write `D.fp16.rtx.engine` (or .tensorrt.engine) and its manifest beside `D.fp16.onnx`.

    Args:
        path: The ONNX file.
        flavour: Of TensorRT.
        profiles: Optimization profiles, at least one.
        wanted_targets: Such as "sm80"; empty: see `pick_targets`.
        log: Called with a sentence for each step.

    Raises:
        InputError: If the file or a target cannot be built.
        CheckFailed: If TensorRT fails, or builds convolutions of other types.
    """
    check_manifest(path)
    artifact, kept = read_description(path)
    targets = pick_targets(flavour, flavour.load(), wanted_targets, artifact.precision)
    released = path.with_suffix(f".{flavour.name}.engine")
    log(f"building {released} for {', '.join(targets)}{_last_time(released)}")
    parsed = _parse(path, flavour)
    convolutions = convolution_types(parsed.trt, parsed.network)
    check_types(convolutions, artifact.precision, kept, released)
    start = time.monotonic()
    plan = _build(parsed, flavour, profiles, targets, released.name)
    seconds = time.monotonic() - start
    with whole_files([released, manifest_path(released)]) as (partial, described_in):
        partial.write_bytes(plan)
        manifest = EngineManifest(
            artifact=artifact,
            flavour=flavour.name,
            version=flavour.version(),
            targets=targets,
            profiles=tuple(profiles),
            inputs=_inputs(parsed.network),
            outputs=_outputs(parsed.network),
            convolutions=convolutions,
            activation_bytes=_activation_bytes(parsed.log),
            build_seconds=round(seconds, 2),
            sha256=sha256(partial),
            bytes=partial.stat().st_size,
            onnx=path.name,
            onnx_sha256=sha256(path),
        )
        described_in.write_text(manifest.to_json(), encoding="utf-8")
    return BuiltEngine(released, manifest)


def convolution_types(trt: ModuleType, network: Any) -> dict[str, str]:
    """The type in which TensorRT will compute each convolution.

    Behind a DequantizeLinear it is the stored type, but only for an activation scale of rank 0.
    With any other shape TensorRT silently computes in the dequantized type.

    Args:
        trt: TensorRT's module.
        network: An INetworkDefinition.

    Returns:
        TensorRT's name of the type, by convolution.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producers = {
        layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)
    }
    types = {}
    for layer in layers:
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        image = layer.get_input(0)
        before = producers.get(image.name)
        if before is not None and _dequantizes(trt, before):
            image = before.get_input(0)
        types[layer.name] = image.dtype.name
    return types


def check_types(found: dict[str, str], precision: str, kept: tuple[str, ...], path: Path) -> None:
    """Check that every convolution runs in the type of the precision, unless it is to be kept.

    Args:
        found: Of `convolution_types`.
        precision: Name of the precision.
        kept: Convolutions in another type.
        path: Final name of the engine, for the message.

    Raises:
        CheckFailed: If a convolution runs in another type, or there is none.
    """
    expected = TYPE_OF[precision]
    wrong = [
        f"{name} in {type}" for name, type in found.items() if name not in kept and type != expected
    ]
    if not found:
        wrong = ["no convolution at all"]
    if wrong:
        raise CheckFailed(
            f"{path.name}: would run {', '.join(wrong)}, expected {expected}; "
            "export the ONNX file again"
        )


def _parse(path: Path, flavour: Flavour) -> _ParsedFile:
    trt = flavour.load()
    log = collecting_logger(trt)
    builder = trt.Builder(log)
    strongly_typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(strongly_typed))  # the bit depends on the version
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        raise CheckFailed(f"{path}: TensorRT does not read it ({errors_of(log)})")
    return _ParsedFile(trt, log, builder, network, parser)


def _build(
    parsed: _ParsedFile,
    flavour: Flavour,
    profiles: list[Profile],
    targets: tuple[str, ...],
    name: str,
) -> Any:
    """The serialised engine, a buffer.

    Raises:
        CheckFailed: If TensorRT fails or warns of an error.
    """
    config = _config(parsed, flavour, profiles, targets)
    with elapsed(f"building {name}"):
        plan = parsed.builder.build_serialized_network(parsed.network, config)
    warnings = [text for severity, text in parsed.log.lines if severity == "WARNING"]
    fatal = [text for text in warnings if any(words in text for words in FATAL_WARNINGS)]
    if plan is None or fatal:
        reason = "; ".join(fatal) or errors_of(parsed.log)
        raise CheckFailed(f"{name}: {_explained(reason)}")
    _keep_timing(config, flavour)
    return plan


def _config(
    parsed: _ParsedFile, flavour: Flavour, profiles: list[Profile], targets: tuple[str, ...]
) -> Any:
    trt, builder = parsed.trt, parsed.builder
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; float32 means float32 here
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if flavour.name == "rtx":
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), i)
    else:
        file = _timing_file(flavour)
        times = _read_times(file)
        config.set_timing_cache(config.create_timing_cache(times), False)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        least, tuned, largest = ((s.batch, 3, s.height, s.width) for s in shapes)
        for i in range(parsed.network.num_inputs):
            profile.set_shape(parsed.network.get_input(i).name, least, tuned, largest)
        config.add_optimization_profile(profile)
    return config


def _timing_file(flavour: Flavour) -> Path:
    """Times of kernels on this GPU, which make the next build faster.

    RTX chooses its kernels when it runs.
    """
    import torch

    gpu = torch.cuda.get_device_name().replace(" ", "-")
    return cache_folder() / f"{flavour.name}-{flavour.version()}-{gpu}.timing"


def _read_times(file: Path) -> bytes:
    """Times of earlier builds; none if the file does not exist or cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _keep_timing(config: Any, flavour: Flavour) -> None:
    if flavour.name == "tensorrt":
        path = _timing_file(flavour)
        with or_uncached(path), whole_file(path) as partial:
            partial.write_bytes(config.get_timing_cache().serialize())


def _dequantizes(trt: ModuleType, layer: Any) -> bool:
    """Whether a layer is a DequantizeLinear with a scale of rank 0."""
    return bool(layer.type == trt.LayerType.DEQUANTIZE and len(layer.get_input(1).shape) == 0)


def _inputs(network: Any) -> dict[str, str]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    return {tensor.name: _type_and_shape(tensor) for tensor in tensors}


def _outputs(network: Any) -> dict[str, str]:
    tensors = [network.get_output(i) for i in range(network.num_outputs)]
    return {tensor.name: _type_and_shape(tensor) for tensor in tensors}


def _type_and_shape(tensor: Any) -> str:
    return f"{tensor.dtype.name} {list(tensor.shape)}"


def _activation_bytes(log: Any) -> tuple[int, ...]:
    """Of every profile, in the builder's order."""
    label = "Total Activation Memory:"
    return tuple(int(text.split(label)[1].split()[0]) for _, text in log.lines if label in text)


def _explained(reason: str) -> str:
    advice = next((advice for words, advice in ADVICE.items() if words in reason), OTHER_ADVICE)
    return f"TensorRT built no engine: {reason}. What helps: {advice}"


def _last_time(released: Path) -> str:
    try:
        seconds = read_engine_manifest(released).build_seconds
    except InputError:
        return ""
    return f" (the last build took {seconds:.1f} s)"
