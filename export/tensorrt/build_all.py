"""Builds an engine beside each ONNX file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from export.settings.export_options import EngineOptions
from export.tensorrt.build import BuiltEngine, build_engine
from export.tensorrt.profiles import COMMON, PROFILE_RULES, Aspects, aspects_of
from export.tensorrt.targets import pick_targets
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact
from vgg_deploy.exported.interface import WHOLE
from vgg_deploy.exported.onnx_metadata import read_description
from vgg_deploy.exported.trt_manifest import InputShape, Profile
from vgg_deploy.exported.trt_packages import Flavour, pick_flavour

DISTANCE_SIDE = 256  # Q of engines of distances without --scales, pixels


class EnginePlan(NamedTuple):
    """What is known before anything is exported for the engines.

    Attributes:
        flavour: Of TensorRT.
        aspects: Of the images that the engines must take.
    """

    flavour: Flavour
    aspects: Aspects


def plan_engines(options: EngineOptions, precisions: tuple[str, ...]) -> EnginePlan:
    """Refuse what cannot be built before anything is exported for it.

    Args:
        options: Of the engines.
        precisions: That will be exported.

    Returns:
        The flavour of TensorRT to build with, and the aspect ratios.

    Raises:
        InputError: If the flavour is not installed, a target does not run a precision, or the
            images whose aspect ratios are asked for cannot be read.
    """
    flavour = pick_flavour(options.flavour)
    trt = flavour.load()
    for precision in precisions:
        pick_targets(flavour, trt, options.targets, precision)
    return EnginePlan(flavour, aspects_of(options.data) if options.data else COMMON)


def build_engines(
    files: list[Path],
    plan: EnginePlan,
    options: EngineOptions,
    log: Callable[[str], None],
    on_engine: Callable[[BuiltEngine], None] = lambda engine: None,
) -> list[BuiltEngine]:
    """Build an engine beside every ONNX file.

    Args:
        files: The ONNX files.
        plan: Of `plan_engines`.
        options: Of the engines.
        log: Called with a sentence for each step.
        on_engine: Called with each engine when it has its final name.

    Raises:
        InputError: As `build_engine`, or if a test scale is below the crop of a net. Engines that
            were built before stay.
        CheckFailed: As `build_engine`.
    """
    flavour, aspects = plan
    source = f"of {options.data}" if options.data else "by rule, without --data"
    usual, longest = ("x".join(map(str, size)) for size in (aspects.usual, aspects.longest))
    log(f"shapes {source}: tuned for {usual}, up to {longest} in either orientation")
    built = []
    for file in files:
        shape = _only_shape(file)
        if shape is not None:
            built.append(build_engine(file, flavour, [Profile(*[shape] * 3)], options.targets, log))
            on_engine(built[-1])
            continue
        least, usual_sides = _sides(file)
        sides = options.sides or usual_sides
        if min(sides) < least:
            raise InputError(
                f"--scales {min(sides)}: below the crop {least} of {file}, so no window fits; "
                f"the smallest Q is {least}"
            )
        profiles = PROFILE_RULES[options.profiles](sides, options.max_batch, least, aspects)
        built.append(build_engine(file, flavour, profiles, options.targets, log))
        on_engine(built[-1])
    return built


def _only_shape(file: Path) -> InputShape | None:
    """The only shape that a file takes, if there is one.

    Raises:
        InputError: For a file that rescales whole images.
    """
    artifact = read_description(file)[0]
    if isinstance(artifact, DistanceArtifact):
        return None
    if artifact.input == WHOLE:
        raise InputError(
            f"{file}: rescales whole images, for which TensorRT lacks the arithmetic (float64); "
            "export another file without --whole-images for the engine"
        )
    shape = artifact.interface.shape
    return None if shape is None else InputShape(*shape)


def _sides(file: Path) -> tuple[int, tuple[int, ...]]:
    """The shortest side that a file takes, and its usual test scales, pixels.

    Distances are measured at any size; without --scales at that of usual photos.
    """
    artifact = read_description(file)[0]
    if isinstance(artifact, DistanceArtifact):
        return artifact.least_side, (DISTANCE_SIDE,)
    return artifact.spec.crop, artifact.spec.test_sides
