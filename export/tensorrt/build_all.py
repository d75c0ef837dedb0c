"""Engines from ONNX files: which flavour, which shapes, one build after the other."""

from collections.abc import Callable
from pathlib import Path

from export.settings.export_options import EngineOptions
from export.tensorrt.build import BuiltEngine, build_engine
from export.tensorrt.profiles import COMMON, PROFILE_RULES, aspects_of
from export.tensorrt.targets import pick_targets
from vgg_deploy.errors import InputError
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.trt_packages import Flavour, pick_flavour


def plan_engines(wanted: EngineOptions, precisions: tuple[str, ...]) -> Flavour:
    """Refuse what could not be built before anything is exported for it.

    Raises: InputError for a flavour that is not there, or a precision that a target does not run.
    """
    flavour = pick_flavour(wanted.flavour)
    trt = flavour.load()
    for precision in precisions:
        pick_targets(flavour, trt, wanted.targets, precision)
    return flavour


def build_engines(
    files: list[Path], flavour: Flavour, wanted: EngineOptions, on_step: Callable[[str], None]
) -> list[BuiltEngine]:
    """An engine beside every ONNX file.

    Raises: InputError, CheckFailed as `build_engine` does; engines built before that stay.
    """
    aspects = aspects_of(wanted.data) if wanted.data else COMMON
    source = f"of {wanted.data}" if wanted.data else "by rule, without --data"
    on_step(
        f"shapes {source}: tuned for {aspects.usual[0]}x{aspects.usual[1]}, room up to {aspects.longest[0]}x{aspects.longest[1]} either way"
    )
    built = []
    for file in files:
        spec = read_onnx_metadata(file)[0].spec
        sides = wanted.sides or spec.test_sides
        if min(sides) < spec.crop:
            raise InputError(
                f"--scales {min(sides)}: below the crop {spec.crop} of {file}, so no window fits; the smallest Q is {spec.crop}"
            )
        profiles = PROFILE_RULES[wanted.profiles](sides, wanted.max_batch, spec.crop, aspects)
        built.append(build_engine(file, flavour, profiles, wanted.targets, on_step))
    return built
