"""Exports from Python: `vgg_deploy.export` writes what vgg-export writes, and prints no tables."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from export.joined_release import export_joined
from export.outputs import file_list
from export.release import PartlyExported, export_onnx
from export.released_files import Exported
from export.settings.export_options import EngineOptions, ExportOptions
from export.settings.serving import ServingOptions
from export.tensorrt.triton import write_repository
from export.write_ncnn import export_ncnn
from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import USUAL
from vgg_deploy.files import write_text
from vgg_deploy.impossible_names import impossible_names_refused
from vgg_deploy.machine import available_cores
from vgg_deploy.net.class_lists import Classes, class_list
from vgg_deploy.net.input_convention import NOTHING_STATED
from vgg_deploy.newest import LAST_EXPORT
from vgg_deploy.printable import printable
from vgg_deploy.progress import console

Source = str | os.PathLike[str]


@impossible_names_refused()
def export(
    source: Source,
    folder: str | os.PathLike[str] = "exported",
    *,
    precision: str | Sequence[str] = ("fp32",),
    calibration: str | os.PathLike[str] | None = None,
    classes: Classes | None = None,
    ncnn: bool = False,
    triton: str | os.PathLike[str] | None = None,
    triton_photos: Sequence[str] = (),
    triton_backend: str = "onnxruntime",
    max_cost: float | None = None,
    max_top1_drop: float | None = None,
    data: str | os.PathLike[str] | None = None,
    name: str | None = None,
    features: Sequence[str] = (),
    with_scores: bool = False,
    boxes_by: str | os.PathLike[str] | None = None,
    low_rank: Mapping[str, int] | None = None,
    whole_images: int | None = None,
    centre_crop: bool = False,
    fixed_shape: tuple[int, int, int] | None = None,
    logits: bool = False,
    opset: int | None = None,
    threads: int | None = None,
) -> list[Exported]:
    """Write ONNX files, and ncnn's files and a Triton repository from them.

    Every file is compared with PyTorch before it gets its name. Steps and warnings are printed to
    standard error.

    Args:
        source: A checkpoint, or weights of another project by path or name, see `vd.load`.
        folder: Of the files; export.json in it lists them.
        precision: "fp32", "fp16", "bf16", "int8", "int8-cpu", "fp8", "int4" or
            "int4-cpu", or several of them.
        calibration: Images like those that the net will see, to quantize by; a folder, a data set
            or shards. None for the built-in images, for nets trained on them.
        classes: Names of the classes in the order of the scores, or a file that lists them, for
            weights that do not name theirs.
        ncnn: Whether ncnn's files are written too; they need "fp32".
        triton: Folder of a Triton model repository to write.
        triton_photos: "crop", "dense" or both: models for Triton that take encoded image files and
            score the centre crop, or the whole image.
        triton_backend: What runs ONNX files in Triton: its "onnxruntime" backend, or "python", a
            model.py that calls the package onnxruntime.
        max_cost: Largest root mean square error of a quantized file's scores on held-out images,
            in per cent; None for any that is not broken.
        max_top1_drop: Largest loss of top-1 accuracy of quantized files on `data`, in percentage
            points; layers are kept in float until it is shown to hold. None: no limit.
        data: Photos that choose the layers and judge the files, for `max_top1_drop`; without
            labels, answers that change are limited.
        name: Beginning of the file names, such as "dogs" for dogs.fp32.onnx; None for the
            configuration's letter.
        features: Layers whose outputs the files give, such as ("relu3_3", "relu7"), instead of
            scores.
        with_scores: Whether files with features give scores too.
        boxes_by: The checkpoint of a localiser of the same classes; every file then gives scores
            and boxes.
        low_rank: Ranks of the factors that replace fc6 and fc7, such as {"fc6": 512}; None for the
            layers as they are.
        whole_images: Q in pixels; the graph then takes whole images of any size, (N, H, W, 3)
            uint8 RGB, and rescales them itself.
        centre_crop: Whether it scores the centre crop of them alone, instead of densely.
        fixed_shape: (N, H, W) of the only batch that the graph takes; None for any.
        logits: Whether it gives scores before softmax in place of the posterior.
        opset: ONNX operator set, 17 to 23; None for that of each precision.
        threads: Of calibration and check; None for all cores that this process may use.

    Returns:
        The files, each with its description and the differences from its reference.

    Raises:
        InputError: If the input or a setting cannot be used.
        Undecided: If `data` cannot show the limit, whatever the files do.
        PartlyExported: If a file fails its check. The others are written; its `exported` has them.
    """
    photos = (triton_photos,) if isinstance(triton_photos, str) else tuple(triton_photos)
    serving = ServingOptions(triton_backend, photos)
    if triton is None and serving != ServingOptions():
        raise InputError("triton_photos and triton_backend need triton, the repository's folder")
    precisions = (precision,) if isinstance(precision, str) else tuple(dict.fromkeys(precision))
    if ncnn and "fp32" not in precisions:
        raise InputError(f"ncnn's files are made from fp32; add it to {', '.join(precisions)}")
    options = ExportOptions(
        precisions,
        calibration=_place(calibration),
        max_cost=max_cost,
        max_top1_drop=max_top1_drop,
        data=_place(data),
        name=name,
        features=(features,) if isinstance(features, str) else tuple(features),
        with_scores=with_scores,
        low_rank=tuple((low_rank or {}).items()),
        whole_images=whole_images,
        centre_crop=centre_crop,
        fixed_shape=fixed_shape,
        logits=logits,
        opset=opset,
    )
    if options.interface != USUAL and (ncnn or boxes_by is not None):
        raise InputError(
            "whole images, fixed shapes and logits are for ONNX files of one net; leave ncnn and "
            "boxes_by out"
        )
    count, out = threads or available_cores(), Path(folder)
    torch.set_num_threads(count)
    failed = None
    listed = class_list(classes) if classes is not None else None
    if boxes_by is not None and max_top1_drop is not None:
        raise InputError("max_top1_drop is measured on files of scores alone; leave boxes_by out")
    if boxes_by is not None and (ncnn or features):
        raise InputError("files of scores and boxes have no features, and no form for ncnn")
    if low_rank and (boxes_by is not None or ncnn):
        raise InputError("low_rank does not go with boxes_by, nor with ncnn; leave one of them out")
    rest = (out, options, listed, count, _log, NOTHING_STATED, _keep_list(out))
    try:
        if boxes_by is not None:
            exported = export_joined(_source(source), Path(boxes_by), *rest)
        else:
            exported = export_onnx(_source(source), *rest)
    except PartlyExported as error:
        if not error.exported:
            raise
        exported, failed = error.exported, error
    files = [file.path for file in exported]
    if ncnn:
        floats = [file.path for file in exported if file.artifact.precision == "fp32"]
        exported = [*exported, *(export_ncnn(path, count, _log) for path in floats)]
    write_text(out / LAST_EXPORT, file_list(exported, files, [], out))
    if triton is not None:
        write_repository(Path(triton), files, EngineOptions().max_batch, _log, serving)
    if failed:
        failed.exported = exported
        raise failed
    return exported


def _keep_list(out: Path) -> Callable[[list[Exported]], None]:
    """What lists the ONNX files so far in export.json."""

    def keep(files: list[Exported]) -> None:
        write_text(out / LAST_EXPORT, file_list(files, [], [], out))

    return keep


def _source(source: Source) -> str | Path:
    """A path, or a name as it is."""
    return source if isinstance(source, str) else Path(source)


def _place(calibration: str | os.PathLike[str] | None) -> Path | str | None:
    """A folder, or the URL of shards as it is."""
    return calibration if calibration is None or isinstance(calibration, str) else Path(calibration)


def _log(text: str) -> None:
    console.print(printable(text))
