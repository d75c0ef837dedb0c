"""Builds an engine beside each ONNX file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from export.settings.export_options import EngineOptions
from export.tensorrt.build import BuiltEngine, build_engine
from export.tensorrt.profiles import COMMON, PROFILE_RULES, Aspects, aspects_of
from export.tensorrt.targets import pick_targets
from vgg_deploy.errors import InputError
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.trt_packages import Flavour, pick_flavour


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
        spec = read_onnx_metadata(file)[0].spec
        sides = options.sides or spec.test_sides
        if min(sides) < spec.crop:
            raise InputError(
                f"--scales {min(sides)}: below the crop {spec.crop} of {file}, so no window fits; "
                f"the smallest Q is {spec.crop}"
            )
        profiles = PROFILE_RULES[options.profiles](sides, options.max_batch, spec.crop, aspects)
        built.append(build_engine(file, flavour, profiles, options.targets, log))
        on_engine(built[-1])
    return built
