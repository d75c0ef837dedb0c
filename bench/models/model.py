"""Opens the files of a benchmark, and names them as the tables do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bench.models.earlier_cells import gave_cells
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import content_sha256, has_weights_beside, weights_path
from vgg_deploy.images.decode import decoder_versions
from vgg_deploy.machine import cpu_instructions, gpu_stack
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.class_matching import with_classes
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.runtimes import Runtime, open_runtime, runtime_version, runtimes_for
from vgg_deploy.runtimes.contract import DeviceRuntime, require_scores
from vgg_deploy.runtimes.deferred import deferred_onnx
from vgg_deploy.unchanged_files import unchanged

if TYPE_CHECKING:
    from vgg_deploy.net.foreign_weights import Assumed

NEEDS_OTHER_DEVICE = {"cpu": (".engine", ".bf16.onnx"), "cuda": (".param", ".xml")}  # names' ends


@dataclass(frozen=True)
class Model:
    """An opened file.

    Attributes:
        path: The file.
        name: In the tables.
        runtime: Runs it.
        sha256: Of its content.
        assumed: What was assumed about weights of another project.
        classes_stated: Whether the command line names its classes. They are ids then, even if
            they are numbers.
    """

    path: Path
    name: str
    runtime: Runtime
    sha256: str
    assumed: "Assumed | None" = None
    classes_stated: bool = False

    @property
    def described(self) -> dict[str, str]:
        """The first columns of every row of this model."""
        return {
            "model": self.name,
            "runtime": self.runtime.name,
            "precision": self.runtime.precision,
        }

    @property
    def origin(self) -> str:
        """The sha256 of the weights that the file was made from, or is."""
        return self.runtime.artifact.source_sha256 if self.runtime.artifact else self.sha256

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides its posteriors, except images and views; ready for JSON.

        The number of threads is not part of it. Neither is the CPU of a file that computes in
        float32: there it changes no more than the rounding of sums. Kernels for 8 bits and half
        precision differ by more.
        """
        runtime = self.runtime
        deciding: dict[str, Any] = {
            "model_sha256": self.sha256,
            "runtime": runtime.name,
            "version": runtime_version(runtime.name),
            "settings": dict(runtime.settings),
            "precision": runtime.precision,
            "device": runtime.device,
            "decoder": decoder_versions(),
        }
        if self.assumed:
            deciding["input"] = self.assumed.input
        if runtime.device == "cuda":
            deciding.update(gpu_stack())
        elif runtime.precision != "fp32":
            deciding["instructions"] = cpu_instructions()
        return deciding


@dataclass(frozen=True)
class ModelOptions:
    """How files are opened; by default each by its usual runtime.

    Attributes:
        device: "cpu" or "cuda".
        threads: Of the CPU.
        runtimes: Names of `PACKAGES`; a file takes those that open it. Empty for the usual one.
        precisions: Of weights in PyTorch.
        cuda_graphs: Whether kernels are recorded and replayed.
        stated: What the command line says about the input of weights of other projects.
        stored: Folder of cells. A file that gave some of them is opened when it is called; None:
            every file is opened at once.
    """

    device: str = "cpu"
    threads: int = 1
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)
    cuda_graphs: bool = False
    stated: StatedInput = NOTHING_STATED
    stored: Path | None = None


def open_models(
    models: Sequence[Path | str | Located],
    options: ModelOptions,
    lists: Mapping[Path, ClassList] = MappingProxyType({}),
) -> list[Model]:
    """Open every file in every runtime and precision that the options name.

    Args:
        models: The files, or names of weights.
        options: How they are opened.
        lists: The classes of files in the order of their scores, by path.

    Raises:
        InputError: For a file that is not a model, that none of the runtimes opens, that changes
            meanwhile, or that contradicts its class list or what is stated about its input.
    """
    found = [locate(model) for model in models]
    files = [model.path for model in found]
    with unchanged(*files, *(weights_path(path) for path in files if has_weights_beside(path))):
        return _open_all(found, options, lists)


def _open_all(
    found: list[Located], options: ModelOptions, lists: Mapping[Path, ClassList]
) -> list[Model]:
    """Open files that stay as they are meanwhile, so that the SHA-256 is of what was read."""
    opened: list[OpenedFile] = []
    assumed: dict[Path, Assumed] = {}
    for model in found:
        path = model.path
        for name, precision in _variants(path, options):
            runtime = _open(path, options, name, precision, assumed)
            if path in lists:
                runtime.spec = with_classes(runtime.spec, lists[path], str(path))
            opened.append(OpenedFile(model, runtime, assumed.get(path), path in lists))
    _refuse_useless_input(found, options.stated, assumed)
    return named_models(opened)


class OpenedFile(NamedTuple):
    """A file that a runtime has opened; the fields are those of `Model`."""

    located: Located
    runtime: Runtime
    assumed: "Assumed | None" = None
    classes_stated: bool = False


def named_models(opened: Sequence[OpenedFile]) -> list[Model]:
    """Name opened files as the tables do.

    Args:
        opened: The files, each once per runtime and precision.

    Raises:
        InputError: For a file that is named twice.
    """
    names = _names([(one.located, one.runtime) for one in opened])
    paths = dict.fromkeys(one.located.path for one in opened)
    digests = {path: content_sha256(path) for path in paths}
    return [
        Model(
            one.located.path,
            name,
            one.runtime,
            digests[one.located.path],
            one.assumed,
            one.classes_stated,
        )
        for one, name in zip(opened, names, strict=True)
    ]


def _variants(path: Path, options: ModelOptions) -> list[tuple[str | None, str]]:
    """Runtime and precision of each way to open a file; the runtime None is the usual one."""
    runtimes: list[str | None] = [None]
    if options.runtimes:
        runtimes = [name for name in options.runtimes if name in runtimes_for(path)]
    if not runtimes:
        raise InputError(
            f"--runtimes {','.join(options.runtimes)}: none of them opens {path}",
            f"choose from {', '.join(runtimes_for(path))}",
        )
    precisions = options.precisions if _is_weights(path) else ("fp32",)
    return [(runtime, precision) for runtime in runtimes for precision in precisions]


def _open(
    path: Path,
    options: ModelOptions,
    name: str | None,
    precision: str,
    assumed: "dict[Path, Assumed]",
) -> Runtime:
    """Open a file; what is assumed about weights of another project is added to `assumed`."""
    stated = options.stated
    if stated != NOTHING_STATED and not _needs_input(path):
        stated = NOTHING_STATED  # such a file knows its own input

    def note(found: "Assumed") -> None:
        assumed[path] = found

    def open_now() -> Runtime:
        return open_runtime(path, options.device, options.threads, name, precision, stated, note)

    runtime = _deferred(path, options, name, open_now) or open_now()
    require_scores(runtime)
    if options.cuda_graphs:
        from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime

        return GraphedRuntime(cast(DeviceRuntime, runtime))  # refuses runtimes on the CPU
    return runtime


def _deferred(
    path: Path, options: ModelOptions, name: str | None, open_now: Callable[[], Runtime]
) -> Runtime | None:
    """A file that gave stored posteriors in the same way as now, so that it can be opened later.

    Returns:
        None for any other file, also for one that cannot be used: opening it says why.
    """
    usual = name in (None, "onnxruntime") and options.device == "cpu" and path.suffix == ".onnx"
    if options.stored is None or not usual:
        return None
    try:
        runtime = deferred_onnx(path, options.threads, open_now)
        if runtime is None:
            return None
        identity = Model(path, path.name, runtime, content_sha256(path)).identity
    except InputError:
        return None
    return runtime if gave_cells(options.stored, identity) else None


def _needs_input(path: Path) -> bool:
    """Whether a file's input may have to be stated: weights of another project."""
    if not _is_weights(path):
        return False
    from vgg_deploy.net.open_net import is_own

    return not is_own(path)


def _is_weights(path: Path) -> bool:
    return "torch" in runtimes_for(path)


def _refuse_useless_input(
    models: Sequence[Located], stated: StatedInput, assumed: "Mapping[Path, Assumed]"
) -> None:
    """Refuse a stated input if no file needs it."""
    if stated != NOTHING_STATED and not assumed:
        raise InputError(
            "--mean, --std, --channel-order and --crop are for weights of other projects, and "
            f"{', '.join(model.name for model in models)} know their own input",
            "leave them out",
        )


def _names(opened: Sequence[tuple[Located, Runtime]]) -> list[str]:
    """File names, with folder, runtime and precision as far as names need them to differ.

    Weights that were given by a name keep it.

    Raises:
        InputError: For a file that is named twice.
    """
    models = list(dict.fromkeys(model for model, _ in opened))
    own_names = [model.name for model in models]
    names = []
    for model, runtime in opened:
        name = model.name if own_names.count(model.name) == 1 else model.given
        variants = {(r.name, r.precision) for m, r in opened if m == model}
        if len(variants) > 1:
            name += f" {runtime.name} {runtime.precision}"
        if name in names:
            raise InputError(f"{name}: is named twice; name every model once")
        names.append(name)
    return names


def runnable(paths: Sequence[Path], device: str) -> tuple[list[Path], list[Path]]:
    """Sort files by whether a device can run them.

    Engines and bfloat16 graphs need a GPU, files of ncnn and OpenVINO need a CPU.

    Args:
        paths: Model files.
        device: "cpu" or "cuda".

    Returns:
        Files that the device can run, and the others.
    """
    others = [path for path in paths if path.name.endswith(NEEDS_OTHER_DEVICE[device])]
    return [path for path in paths if path not in others], others


def check_sides(models: Sequence[Model], sides: Sequence[int]) -> None:
    """Refuse a Q below a model's crop, where the score map is empty.

    Args:
        models: All models of the run.
        sides: Q, pixels.

    Raises:
        InputError: For the first model with a larger crop.
    """
    for model in models:
        crop = model.runtime.spec.crop
        if min(sides) < crop:
            raise InputError(
                f"--scales {min(sides)}: below the crop {crop} of {model.path}, so no window fits",
                f"the smallest Q is {crop}",
            )
