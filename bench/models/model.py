"""The files of a benchmark, opened, and how the tables call them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import content_sha256
from vgg_deploy.images.decode import decoder_versions
from vgg_deploy.machine import cpu_instructions, gpu_stack
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.class_matching import with_classes
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.open_net import is_own
from vgg_deploy.runtimes import PACKAGES, Runtime, open_runtime, runtimes_for
from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime


@dataclass(frozen=True)
class Model:
    """An opened file."""

    path: Path
    name: str  # in the tables
    runtime: Runtime
    sha256: str
    assumed: Assumed | None = None  # of weights of another project
    classes_stated: bool = False  # by the command line, so that they are ids even if numbers

    @property
    def described(self) -> dict:
        """The columns that every row of this model begins with."""
        return {
            "model": self.name,
            "runtime": self.runtime.name,
            "precision": self.runtime.precision,
        }

    @property
    def origin(self) -> str:
        """sha256 of the weights it was made from; its own where it is these weights."""
        return self.runtime.artifact.source_sha256 if self.runtime.artifact else self.sha256

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides its posteriors, beside the images and their views; ready for JSON.

        The number of threads is not part of it. Neither is the CPU where a file computes in float32, for there
        it changes no more than the rounding of sums; 8-bit and half-precision kernels differ by more.
        """
        runtime = self.runtime
        deciding = {
            "model_sha256": self.sha256,
            "runtime": runtime.name,
            "version": version(PACKAGES[runtime.name]),
            "settings": dict(runtime.settings),
            "precision": runtime.precision,
            "device": runtime.device,
            "decoder": decoder_versions(),
            **({"input": self.assumed.input} if self.assumed else {}),
        }
        if runtime.device == "cuda":
            deciding.update(gpu_stack())
        elif runtime.precision != "fp32":
            deciding["instructions"] = cpu_instructions()
        return deciding


@dataclass(frozen=True)
class ModelOptions:
    """How files are opened; by default each by its usual runtime."""

    device: str = "cpu"
    threads: int = 1
    runtimes: tuple[str, ...] = ()  # names of PACKAGES; a file takes those that open it
    precisions: tuple[str, ...] = ("fp32",)  # of weights in PyTorch
    cuda_graphs: bool = False
    stated: StatedInput = NOTHING_STATED  # of weights of other projects


def open_models(
    paths: list[Path], ways: ModelOptions, lists: Mapping[Path, ClassList] = MappingProxyType({})
) -> list[Model]:
    """Open every file in every way.

    Args:
        lists: The classes of files in the order of their scores, by path.

    Raises:
        InputError: For a file that is no model, that none of the runtimes opens, or that
            contradicts its class list or what is stated of its input.
    """
    opened = []
    assumed: dict[Path, Assumed] = {}
    for path in paths:
        for runtime in (
            [name for name in ways.runtimes if name in runtimes_for(path)]
            if ways.runtimes
            else [None]
        ):
            for precision in ways.precisions if _is_weights(path) else ("fp32",):
                one = _opened(path, ways, runtime, precision, assumed)
                if path in lists:
                    one.spec = with_classes(one.spec, lists[path], str(path))
                opened.append((path, one))
        if not any(known == path for known, _ in opened):
            raise InputError(
                f"--runtimes {','.join(ways.runtimes)}: none of them opens {path}; choose from {', '.join(runtimes_for(path))}"
            )
    names = _names(opened)
    if len(set(names)) < len(names):
        raise InputError(
            f"{next(n for n in names if names.count(n) > 1)}: is named twice; name every model once"
        )
    digests = {path: content_sha256(path) for path, _ in opened}
    if ways.stated != NOTHING_STATED and not assumed:
        raise InputError(
            f"--mean, --std, --channel-order and --crop are for weights of other projects, and "
            f"{', '.join(path.name for path in paths)} know their own input; leave them out"
        )
    return [
        Model(path, name, runtime, digests[path], assumed.get(path), path in lists)
        for (path, runtime), name in zip(opened, names, strict=True)
    ]


def _opened(
    path: Path,
    ways: ModelOptions,
    runtime: str | None,
    precision: str,
    assumed: dict[Path, Assumed],
) -> Runtime:
    """A file in one way; what was assumed of weights of another project is noted in `assumed`."""
    stated = ways.stated
    if stated != NOTHING_STATED and (not _is_weights(path) or is_own(path)):
        stated = NOTHING_STATED  # such a file knows its own input

    def note(found: Assumed) -> None:
        assumed[path] = found

    one = open_runtime(path, ways.device, ways.threads, runtime, precision, stated, note)
    return GraphedRuntime(one) if ways.cuda_graphs else one


def _is_weights(path: Path) -> bool:
    return "torch" in runtimes_for(path)


def _names(opened: list[tuple[Path, Runtime]]) -> list[str]:
    """File names, with their folder or their way where that alone would name several."""
    paths = list(dict.fromkeys(path for path, _ in opened))
    short = {
        path: path.name if [p.name for p in paths].count(path.name) == 1 else str(path)
        for path in paths
    }
    ways = {path: len({(r.runtime, r.precision) for p, r in opened if p == path}) for path in paths}
    return [
        f"{short[path]} {r.runtime} {r.precision}" if ways[path] > 1 else short[path]
        for path, r in opened
    ]


def runnable(paths: list[Path], device: str) -> tuple[list[Path], list[Path]]:
    """Files that a device can run, and the others: engines need a GPU, and so do bfloat16 graphs; ncnn's files need a CPU."""
    elsewhere = {"cpu": (".engine", ".bf16.onnx"), "cuda": (".param",)}[device]
    others = [path for path in paths if path.name.endswith(elsewhere)]
    return [path for path in paths if path not in others], others


def check_sides(models: list[Model], sides: tuple[int, ...]) -> None:
    """Raises: InputError for a Q below a model's crop, where the score map is empty."""
    for model in models:
        crop = model.runtime.spec.crop
        if min(sides) < crop:
            raise InputError(
                f"--scales {min(sides)}: below the crop {crop} of {model.path}, so no window fits; the smallest Q is {crop}"
            )
