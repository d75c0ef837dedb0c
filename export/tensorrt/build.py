"""Building a TensorRT engine from an ONNX file of ours, and making sure of what was built."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from export.tensorrt.targets import pick_targets
from vgg_deploy.cache import cache_folder
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import check_manifest, manifest_path
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.trt_manifest import EngineManifest, Profile, read_engine_manifest
from vgg_deploy.exported.trt_packages import Flavour, collecting_logger, errors_of
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.progress import elapsed

# What TensorRT says, and what helps. Warnings among them are errors here.
ADVICE = (
    (
        "not self-consistent",
        "the profile's smallest shape has no score map; raise --scales to the net's crop or above",
    ),
    ("no optimization profile", "give --scales, so that the engine knows its shapes"),
    (
        "Cannot compile for target",
        "that GPU lacks the type; leave it out of --target, or take another --precision",
    ),
    (
        "Could not find any implementation",
        "often this means that memory ran out while kernels were tried; free GPU memory, or lower --max-batch or --scales",
    ),
    ("out of memory", "lower --max-batch or --scales, or free GPU memory"),
    ("OutOfMemory", "lower --max-batch or --scales, or free GPU memory"),
)
FATAL_WARNINGS = ("not self-consistent",)
TYPE_OF = {
    "fp32": "FLOAT",
    "fp16": "HALF",
    "bf16": "BF16",
    "int8": "INT8",
    "fp8": "FP8",
}  # of a precision's convolutions


@dataclass(frozen=True)
class BuiltEngine:
    """One released engine."""

    path: Path
    manifest: EngineManifest


def build_engine(
    path: Path,
    flavour: Flavour,
    profiles: list[Profile],
    wanted_targets: tuple[str, ...],
    on_step: Callable[[str], None],
) -> BuiltEngine:
    """`D.fp16.onnx` -> `D.fp16.rtx.engine` (or .tensorrt.engine) and its manifest.

    Raises: InputError for a file or a target that cannot be built; CheckFailed if TensorRT fails or builds other types.
    """
    check_manifest(path)
    artifact, kept = read_onnx_metadata(path)
    trt = flavour.load()
    targets = pick_targets(flavour, trt, wanted_targets, artifact.precision)
    released = path.with_suffix(f".{flavour.name}.engine")
    on_step(f"building {released} for {', '.join(targets)}{_last_time(released)}")
    log = collecting_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )  # the bit differs between versions
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        raise CheckFailed(f"{path}: TensorRT does not read it ({errors_of(log)})")
    convolutions = convolution_types(trt, network)
    check_types(convolutions, artifact.precision, kept, released)
    config = _config(trt, builder, flavour, profiles, targets)
    begun = time.monotonic()
    with elapsed(f"building {released.name}"):
        plan = builder.build_serialized_network(network, config)
    seconds = time.monotonic() - begun
    fatal = [
        text
        for severity, text in log.lines
        if severity == "WARNING" and any(known in text for known in FATAL_WARNINGS)
    ]
    if plan is None or fatal:
        raise CheckFailed(f"{released.name}: {_explained('; '.join(fatal) or errors_of(log))}")
    _keep_timing(config, flavour)
    with whole_file(released) as partial:
        partial.write_bytes(plan)
        manifest = EngineManifest(
            artifact=artifact,
            flavour=flavour.name,
            version=flavour.version(),
            targets=targets,
            profiles=tuple(profiles),
            inputs={
                t.name: _described_tensor(t)
                for t in (network.get_input(i) for i in range(network.num_inputs))
            },
            outputs={
                t.name: _described_tensor(t)
                for t in (network.get_output(i) for i in range(network.num_outputs))
            },
            convolutions=convolutions,
            activation_bytes=_activation_bytes(log),
            build_seconds=round(seconds, 2),
            sha256=sha256(partial),
            bytes=partial.stat().st_size,
            onnx=path.name,
            onnx_sha256=sha256(path),
        )
        manifest_path(released).unlink(missing_ok=True)  # of an older engine
    write_text(manifest_path(released), manifest.to_json())
    return BuiltEngine(released, manifest)


def convolution_types(trt: ModuleType, network: Any) -> dict[str, str]:
    """Convolution -> type of what it multiplies, as TensorRT will see it.

    Behind a DequantizeLinear it is the stored type, but only for an activation scale of rank 0: with any other shape
    TensorRT computes in the dequantized type without a word.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    made = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    found = {}
    for layer in layers:
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        image = layer.get_input(0)
        before = made.get(image.name)
        if (
            before is not None
            and before.type == trt.LayerType.DEQUANTIZE
            and len(before.get_input(1).shape) == 0
        ):
            image = before.get_input(0)
        found[layer.name] = image.dtype.name
    return found


def check_types(found: dict[str, str], precision: str, kept: tuple[str, ...], path: Path) -> None:
    """Raises: CheckFailed if a convolution would run in another type than the precision's, unless it was asked to be kept."""
    wrong = {
        name: type
        for name, type in found.items()
        if name not in kept and type != TYPE_OF[precision]
    }
    if wrong or not found:
        listed = (
            ", ".join(f"{name} in {type}" for name, type in wrong.items())
            or "no convolution at all"
        )
        raise CheckFailed(
            f"{path.name}: would run {listed}, expected {TYPE_OF[precision]}; export the ONNX file again"
        )


def _config(
    trt: ModuleType,
    builder: Any,
    flavour: Flavour,
    profiles: list[Profile],
    targets: tuple[str, ...],
) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; float32 means float32 here
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if flavour.name == "rtx":
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), i)
    else:
        kept = _timing_file(flavour)
        config.set_timing_cache(
            config.create_timing_cache(kept.read_bytes() if kept.is_file() else b""), False
        )
    for profile in profiles:
        wanted = builder.create_optimization_profile()
        wanted.set_shape("image", *((s.batch, 3, s.height, s.width) for s in profile))
        config.add_optimization_profile(wanted)
    return config


def _timing_file(flavour: Flavour) -> Path:
    """Times of kernels on this GPU, which make the next build faster; RTX chooses its kernels when it runs."""
    import torch

    gpu = torch.cuda.get_device_name().replace(" ", "-")
    return cache_folder() / f"{flavour.name}-{flavour.version()}-{gpu}.timing"


def _keep_timing(config: Any, flavour: Flavour) -> None:
    if flavour.name == "tensorrt":
        with whole_file(_timing_file(flavour)) as partial:
            partial.write_bytes(config.get_timing_cache().serialize())


def _activation_bytes(log: Any) -> tuple[int, ...]:
    """Of every profile, in the builder's order."""
    label = "Total Activation Memory:"
    return tuple(int(text.split(label)[1].split()[0]) for _, text in log.lines if label in text)


def _explained(reason: str) -> str:
    advice = [advice for known, advice in ADVICE if known in reason]
    return f"TensorRT built no engine: {reason}. What helps: {advice[0] if advice else 'see its words above; another --max-batch or --scales may work'}"


def _last_time(released: Path) -> str:
    try:
        return f" (the last build took {read_engine_manifest(released).build_seconds:.1f} s)"
    except InputError:
        return ""


def _described_tensor(tensor: Any) -> str:
    return f"{tensor.dtype.name} {list(tensor.shape)}"
