"""Writes what vgg-export was asked for: ONNX files, engines, ncnn's files, their list, Triton.

Heavy packages are imported where they are needed: engines are built without PyTorch, in less
memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from export.outputs import file_list, show, show_engines
from export.request import ExportRequest
from export.settings.distance_choice import DistanceChoice
from export.tensorrt.build import BuiltEngine
from export.tensorrt.build_all import EnginePlan, build_engines, plan_engines
from export.tensorrt.triton import write_repository
from vgg_deploy.command_line import say
from vgg_deploy.exported.signatures import SigningKey, signature_path
from vgg_deploy.files import write_text
from vgg_deploy.newest import LAST_EXPORT, newest_exports, newest_run
from vgg_deploy.printable import printable
from vgg_deploy.progress import console

if TYPE_CHECKING:
    from export.released_files import (
        DistancesPartlyExported,
        Exported,
        ExportedDistance,
        PartlyExported,
    )


class OnnxFiles(NamedTuple):
    """The ONNX files that a command works from.

    Attributes:
        files: All of them.
        exported: Those that this command wrote.
        failed: Why some were not written.
        distances: Distance files that this command wrote.
    """

    files: list[Path]
    exported: "list[Exported]"
    failed: "PartlyExported | DistancesPartlyExported | None" = None
    distances: "list[ExportedDistance] | None" = None

    @property
    def written(self) -> list[Path]:
        """Those that this command wrote."""
        scores = [file.path for file in self.exported]
        return scores + [file.path for file in self.distances or []]


def export(request: ExportRequest) -> None:
    """Write the files, show tables of them, and list them in export.json.

    Raises:
        InputError: If the input cannot be used.
        CheckFailed: If a file fails its check; what else can be written is written.
        click.UsageError: If there are no ONNX files to work from.
    """
    plan = check_packages(request)
    key = SigningKey(request.sign) if request.sign else None  # before hours of work
    onnx = onnx_files(request)
    engines: list[BuiltEngine] = []
    ncnn: list[Exported] = []

    def keep_list() -> None:
        write_list(request, onnx, engines, ncnn)

    with telling_what_was_written(request, onnx, engines, ncnn):
        sign_files(onnx, key)
        if plan:
            write_engines(request, onnx, plan, engines, keep_list)
        if request.to_ncnn:
            write_ncnn_files(request, onnx, ncnn, keep_list)
        keep_list()
        if request.triton:
            files = [*onnx.files, *(engine.path for engine in engines)]
            write_repository(request.triton, files, request.max_batch, log, request.serving)
    if onnx.failed:
        raise onnx.failed


@contextmanager
def telling_what_was_written(
    request: ExportRequest, onnx: OnnxFiles, engines: list[BuiltEngine], ncnn: "list[Exported]"
) -> Iterator[None]:
    """If the block fails or is interrupted, name the files that have their final names."""
    try:
        yield
    except BaseException:
        written = [path.name for path in onnx.written]
        written += [file.path.name for file in ncnn]
        written += [engine.path.name for engine in engines]
        if written:
            names = ", ".join(written)
            log(f"Written before the failure, and listed in {request.out / LAST_EXPORT}: {names}")
        raise


def log(text: str) -> None:
    """Print a step or a warning to standard error."""
    console.print(printable(text))


def check_packages(request: ExportRequest) -> EnginePlan | None:
    """Refuse what cannot be written, before anything is.

    Returns:
        How engines are built; None: none are.

    Raises:
        InputError: If a package is missing, a GPU does not run a precision, or the images of
            --data cannot be read.
    """
    plan = None
    if request.to_trt:
        precisions = request.precisions if request.to_onnx else ()
        plan = plan_engines(request.engines, precisions)
    if request.to_ncnn:
        from vgg_deploy.runtimes.ncnn_loading import load_ncnn

        load_ncnn()
    return plan


def onnx_files(request: ExportRequest) -> OnnxFiles:
    """The ONNX files to work from, written if they are asked for."""
    if not request.to_onnx:
        return find_onnx_files(request)
    if request.distance:
        return write_distance_files(request, request.distance)
    return write_onnx_files(request)


def write_distance_files(request: ExportRequest, choice: DistanceChoice) -> OnnxFiles:
    """Export a distance of two images, and show the files.

    Raises:
        InputError: If the input cannot be used.
        DistancesPartlyExported: If no file passes its checks.
    """
    import torch

    from export.distance_files import export_distances
    from export.distance_outputs import show_distances
    from export.released_files import DistancesPartlyExported
    from vgg_deploy.net.named_weights import locate

    torch.set_num_threads(request.thread_count)
    source = locate(request.model or newest_checkpoint())
    failed = None

    def keep_list(files: "list[ExportedDistance]") -> None:
        write_list(request, OnnxFiles([file.path for file in files], [], None, files))

    try:
        exported = export_distances(
            source,
            request.out,
            request.onnx,
            choice,
            request.thread_count,
            log,
            request.stated,
            keep_list,
        )
    except DistancesPartlyExported as error:
        if not error.exported:
            raise
        exported, failed = error.exported, error
        log(f"Warning: {error.message}. Continuing with what was written")
    onnx = OnnxFiles([file.path for file in exported], [], failed, exported)
    write_list(request, onnx)
    show_distances(exported)
    return onnx


def write_onnx_files(request: ExportRequest) -> OnnxFiles:
    """Export a checkpoint, and show the files.

    Raises:
        InputError: If the input cannot be used.
        PartlyExported: If no file passes its checks.
    """
    import torch

    from export.release import PartlyExported, export_onnx
    from vgg_deploy.net.class_lists import read_class_list
    from vgg_deploy.net.named_weights import locate

    threads = request.thread_count
    torch.set_num_threads(threads)
    source = locate(request.model or newest_checkpoint())
    classes = read_class_list(request.classes) if request.classes else None
    failed = None

    def keep_list(files: "list[Exported]") -> None:
        write_list(request, OnnxFiles([file.path for file in files], files))

    rest = (request.out, request.onnx, classes, threads, log, request.stated, keep_list)
    try:
        if request.boxes_by:
            from export.joined_release import export_joined

            exported = export_joined(source, request.boxes_by, *rest)
        else:
            exported = export_onnx(source, *rest)
    except PartlyExported as error:
        show_failed_limits(error)
        if not error.exported:
            raise
        exported, failed = error.exported, error
        log(f"Warning: {error.message}. Continuing with what was written")
    onnx = OnnxFiles([file.path for file in exported], exported, failed)
    write_list(request, onnx)
    if request.sensitivity:
        from export.quantize.sensitivity import report_sensitivity  # pandas, 55 MB of memory

        report_sensitivity(source, request.out, request.onnx, classes, threads, log, request.stated)
    show_kept_limits(exported)
    show(exported)
    return onnx


def show_kept_limits(exported: "list[Exported]") -> None:
    """Print what was tried for files that keep a limit."""
    from export.limit.record import show_limit

    for file in exported:
        if file.limit:
            show_limit(file.limit)


def show_failed_limits(error: "PartlyExported") -> None:
    """Print what was tried for files that were not shown to keep a limit."""
    from export.limit.record import LimitBroken, LimitUndecided, show_limit

    for failure in error.failures:
        if isinstance(failure.error, LimitBroken | LimitUndecided):
            show_limit(failure.error.record)


def sign_files(onnx: OnnxFiles, key: SigningKey | None) -> None:
    """Sign the files that this command wrote; without a key, remove older files' signatures.

    Raises:
        InputError: If a signature cannot be written.
    """
    for path in onnx.written:
        signature_path(path).unlink(missing_ok=True)
        if key:
            log(f"signed: {key.sign(path)}")


def newest_checkpoint() -> Path:
    """The best checkpoint of the newest run."""
    path = newest_run() / "best.pt"
    say(f"No model named: exporting the newest run, {path}")
    return path


def find_onnx_files(request: ExportRequest) -> OnnxFiles:
    """The ONNX file that is named, else those of the last export.

    Raises:
        click.UsageError: If there are none.
    """
    if isinstance(request.model, Path):
        return OnnxFiles([request.model], [])
    files = [path for path in newest_exports(request.out) if path.suffix == ".onnx"]
    if not files:
        raise click.UsageError(
            f"{request.out / LAST_EXPORT}: lists no ONNX files to work from; "
            "add --onnx, or name one"
        )
    return OnnxFiles(files, [])


def write_engines(
    request: ExportRequest,
    onnx: OnnxFiles,
    plan: EnginePlan,
    engines: list[BuiltEngine],
    keep_list: Callable[[], None],
) -> None:
    """Build an engine from every ONNX file, and show them.

    Args:
        request: The options.
        onnx: The ONNX files.
        plan: How they are built.
        engines: Gets every engine that is built.
        keep_list: Called after each of them.
    """

    def built(engine: BuiltEngine) -> None:
        engines.append(engine)
        keep_list()

    build_engines(onnx.files, plan, request.engines, log, built)
    show_engines(engines)


def write_ncnn_files(
    request: ExportRequest,
    onnx: OnnxFiles,
    ncnn: "list[Exported]",
    keep_list: Callable[[], None],
) -> None:
    """Write ncnn's files from the float32 ONNX files, and show them.

    Args:
        request: The options.
        onnx: The ONNX files.
        ncnn: Gets every file that is written.
        keep_list: Called after each of them.

    Raises:
        PartlyExported: If the float32 ONNX file failed its check.
        click.UsageError: If there is no float32 ONNX file.
    """
    from export.write_ncnn import export_ncnn

    floats = [path for path in onnx.files if request.names_onnx or path.name.endswith(".fp32.onnx")]
    if not floats:
        raise onnx.failed or click.UsageError(
            f"{request.out / LAST_EXPORT}: lists no float32 ONNX file; add --onnx, or name one"
        )
    for path in floats:
        ncnn.append(export_ncnn(path, request.thread_count, log))
        keep_list()
    show(ncnn)


def write_list(
    request: ExportRequest,
    onnx: OnnxFiles,
    engines: "list[BuiltEngine] | None" = None,
    ncnn: "list[Exported] | None" = None,
) -> None:
    """List the files in export.json, for commands that run without a named model."""
    exported = [*onnx.exported, *(ncnn or [])]
    text = file_list(exported, onnx.files, engines or [], request.out, onnx.distances or [])
    write_text(request.out / LAST_EXPORT, text)
