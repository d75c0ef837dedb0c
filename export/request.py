"""Collects the options of vgg-export in one record, and refuses contradictions."""

from dataclasses import dataclass
from pathlib import Path

import click

from export.settings.distance_choice import DistanceChoice
from export.settings.export_options import QUANTIZED_NAMES, EngineOptions, ExportOptions
from export.settings.serving import ServingOptions
from vgg_deploy.command_line import Channels
from vgg_deploy.machine import available_cores
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput


@dataclass(frozen=True)
class ExportRequest:
    """The options of vgg-export, named as in its help texts."""

    model: Path | str | None  # a path, or a name of weights
    to_onnx: bool
    to_trt: bool
    to_ncnn: bool
    triton: Path | None  # folder of a model repository
    triton_photos: tuple[str, ...]
    triton_backend: str
    out: Path
    threads: int | None  # None: all cores that this process may use
    sign: Path | None  # a private key
    # ONNX files
    precisions: tuple[str, ...]
    form: str
    name: str | None  # of the files; None: the configuration's letter
    keep: tuple[str, ...]
    features: tuple[str, ...]
    with_scores: bool
    boxes_by: Path | None
    low_rank: tuple[tuple[str, int], ...]
    whole_images: int | None  # Q, pixels
    centre_crop: bool
    fixed_shape: tuple[int, ...] | None  # N, C, H, W, or N, H, W, C of whole images
    logits: bool
    opset: int | None  # None: of each precision

    lpips: bool
    perceptual: tuple[tuple[str, float], ...]
    gram: tuple[tuple[str, float], ...]
    quantize_weights: str  # "per-channel", "per-tensor"
    calibration: str | None
    calibration_images: int
    method: str
    external_data: bool
    max_cost: float | None
    max_top1_drop: float | None
    on_error: str
    exif: str
    sensitivity: bool
    # what foreign weights do not say
    classes: Path | None
    mean: Channels | None
    std: Channels | None
    channel_order: str | None
    crop: int | None
    # engines
    flavour_name: str | None
    targets: tuple[str, ...]
    sides: tuple[int, ...] | None
    max_batch: int
    profiles: str
    data: str | None

    @property
    def names_onnx(self) -> bool:
        """Whether the model is an ONNX file."""
        return isinstance(self.model, Path) and self.model.suffix == ".onnx"

    @property
    def thread_count(self) -> int:
        """Threads of calibration and check; as many processes decode images."""
        return self.threads or available_cores()

    @property
    def onnx(self) -> ExportOptions:
        """The ONNX files to write."""
        return ExportOptions(
            precisions=self.precisions,
            form=self.form,
            keep=self.keep,
            per_channel=self.quantize_weights == "per-channel",
            calibration=self.calibration,
            calibration_images=self.calibration_images,
            method=self.method,
            external_data=self.external_data,
            max_cost=self.max_cost,
            on_error=self.on_error,
            exif=self.exif,
            name=self.name,
            features=self.features,
            with_scores=self.with_scores,
            distance=self.distance,
            max_top1_drop=self.max_top1_drop,
            data=self.data if self.max_top1_drop is not None else None,
            low_rank=self.low_rank,
            whole_images=self.whole_images,
            centre_crop=self.centre_crop,
            fixed_shape=self.batch_shape,
            logits=self.logits,
            opset=self.opset,
        )

    @property
    def batch_shape(self) -> tuple[int, int, int] | None:
        """N, H and W of the fixed shape.

        Raises:
            click.UsageError: If its colours are not where the graph has them.
        """
        if self.fixed_shape is None:
            return None
        whole = self.whole_images is not None
        count, *rest = self.fixed_shape
        colours = rest.pop(2 if whole else 0)
        if colours != 3:
            form = "NxHxWx3, e.g. 1x480x640x3" if whole else "Nx3xHxW, e.g. 1x3x224x224"
            given = "x".join(map(str, self.fixed_shape))
            raise click.UsageError(f"--fixed-shape {given}: the graph takes {form}")
        return count, rest[0], rest[1]

    @property
    def distance(self) -> DistanceChoice | None:
        """The distance that the files give; None: scores or features.

        Raises:
            InputError: If a layer is named twice, or a weight is not positive.
        """
        if self.lpips:
            return DistanceChoice("lpips")
        if self.perceptual:
            return DistanceChoice("perceptual", self.perceptual)
        return DistanceChoice("gram", self.gram) if self.gram else None

    @property
    def engines(self) -> EngineOptions:
        """The engines to build."""
        return EngineOptions(
            flavour=self.flavour_name,
            targets=self.targets,
            sides=self.sides,
            max_batch=self.max_batch,
            profiles=self.profiles,
            data=self.data,
        )

    @property
    def serving(self) -> ServingOptions:
        """What Triton's repository has besides the nets."""
        return ServingOptions(self.triton_backend, self.triton_photos, self.exif)

    @property
    def stated(self) -> StatedInput:
        """The input of foreign weights.

        Raises:
            InputError: If mean and std are of two units.
        """
        return StatedInput(self.mean, self.std, self.channel_order, self.crop)


def refuse_contradictions(request: ExportRequest) -> None:
    """Check that the options fit together, whatever the files contain.

    Raises:
        click.UsageError: If they do not.
        InputError: If mean and std are of two units.
    """
    if not (request.to_onnx or request.to_trt or request.to_ncnn):
        raise click.UsageError("nothing to write; add --onnx, --trt or --ncnn, or several of them")
    if request.to_onnx and request.names_onnx:
        raise click.UsageError(
            f"{request.model}: is an ONNX file already; leave --onnx out to make an engine or "
            "ncnn's files of it"
        )
    if request.model is not None and not (request.to_onnx or request.names_onnx):
        raise click.UsageError(
            f"{request.model}: engines and ncnn's files are made from ONNX files; add --onnx, or "
            "name the .onnx file"
        )
    if request.sign and not request.to_onnx:
        raise click.UsageError("--sign signs the ONNX files that are written; add --onnx")
    if request.external_data and not request.to_onnx:
        raise click.UsageError("--external-data is how ONNX files are written; add --onnx")
    if request.name is not None and not request.to_onnx:
        raise click.UsageError("--name begins the names of ONNX files; add --onnx")
    if request.features and not request.to_onnx:
        raise click.UsageError("--features says what ONNX files give; add --onnx")
    if request.boxes_by and not request.to_onnx:
        raise click.UsageError("--boxes-by adds the boxes of a localiser to ONNX files; add --onnx")
    if request.boxes_by and request.features:
        raise click.UsageError("--boxes-by gives scores and boxes; leave --features out")
    if request.boxes_by and request.sensitivity:
        raise click.UsageError("--sensitivity is measured on one net; leave --boxes-by out")
    if request.boxes_by and request.to_ncnn:
        raise click.UsageError(
            "--ncnn writes the files of one net; leave --boxes-by out, and export the localiser "
            "alone too"
        )
    _refuse_low_rank_with_others(request)
    if request.with_scores and not request.features:
        raise click.UsageError("--with-scores adds posterior and score map to --features; add it")
    _refuse_limit_options(request)
    _refuse_interface_options(request)
    _refuse_distance_options(request)
    if request.sensitivity and request.features:
        raise click.UsageError("--sensitivity is measured on scores; leave --features out")
    if request.sensitivity and not request.to_onnx:
        raise click.UsageError("--sensitivity is measured on weights; add --onnx")
    if request.to_ncnn and request.to_onnx and "fp32" not in request.precisions:
        raise click.UsageError("--ncnn is made from float32; add fp32 to --precision")
    if not request.to_trt:
        _refuse_options_of_engines(request)
    if not request.triton:
        _refuse_options_of_triton(request)
    if request.triton_photos and request.to_onnx and request.form == "normalised":
        raise click.UsageError(
            "--triton-photos feeds pixels of 0-255; leave --input normalised out"
        )
    describes_weights = bool(request.classes) or request.stated != NOTHING_STATED
    if describes_weights and not request.to_onnx:
        raise click.UsageError(
            "--classes, --mean, --std, --channel-order and --crop describe weights; add --onnx"
        )


def _refuse_low_rank_with_others(request: ExportRequest) -> None:
    """Check the options that --low-rank does not go with.

    Raises:
        click.UsageError: For the first of them.
    """
    if not request.low_rank:
        return
    if not request.to_onnx:
        raise click.UsageError("--low-rank is how ONNX files are written; add --onnx")
    others = (
        ("--boxes-by", bool(request.boxes_by)),
        ("--sensitivity", request.sensitivity),
        ("--ncnn", request.to_ncnn),
    )
    for name, is_given in others:
        if is_given:
            raise click.UsageError(f"{name}: does not go with --low-rank; leave one of them out")


def _refuse_interface_options(request: ExportRequest) -> None:
    """Check the options about what the graph takes and gives.

    Raises:
        click.UsageError: If they do not fit together.
    """
    given = {
        "--whole-images": request.whole_images is not None,
        "--centre-crop": request.centre_crop,
        "--fixed-shape": request.fixed_shape is not None,
        "--logits": request.logits,
        "--opset": request.opset is not None,
    }
    named = [option for option, is_given in given.items() if is_given]
    if not named:
        return
    if not request.to_onnx:
        raise click.UsageError(f"{named[0]} says how ONNX files are written; add --onnx")
    if request.centre_crop and request.whole_images is None:
        raise click.UsageError("--centre-crop is cut by --whole-images; add it, e.g. 256")
    if request.whole_images is not None and request.form != ExportOptions().form:
        raise click.UsageError("--whole-images takes uint8; leave --input out")
    _ = request.batch_shape
    distances = request.lpips or bool(request.perceptual) or bool(request.gram)
    graphs = {
        "--ncnn": request.to_ncnn,
        "--boxes-by": request.boxes_by is not None,
        "--lpips, --perceptual and --gram": distances,
    }
    for name, is_given in graphs.items():
        others = [option for option in named if option != "--opset" or distances]
        if is_given and others:
            raise click.UsageError(f"{others[0]} does not go with {name}; leave one of them out")
    if request.whole_images is not None and (request.to_trt or request.features):
        other = "--trt" if request.to_trt else "--features"
        raise click.UsageError(
            f"--whole-images is for scores in ONNX Runtime; leave {other} out, or write both files"
        )
    if request.logits and request.features and not request.with_scores:
        raise click.UsageError("--logits are scores; add --with-scores, or leave --features out")
    if request.triton_photos and (request.whole_images is not None or request.logits):
        other = "--logits" if request.logits else "--whole-images"
        raise click.UsageError(
            f"--triton-photos rescales photos and answers with posteriors; leave {other} out"
        )
    if request.fixed_shape is not None and request.triton:
        raise click.UsageError(
            "--triton batches by itself, which needs dynamic shapes; leave --fixed-shape out"
        )


def _refuse_options_of_engines(request: ExportRequest) -> None:
    """Refuse, where no engine is built, what would have no effect, be it right or wrong.

    Raises:
        click.UsageError: For the first such option.
    """
    given = {
        "--trt-flavour": request.flavour_name is not None,
        "--target": bool(request.targets),
        "--scales": request.sides is not None,
        "--profiles": request.profiles != EngineOptions().profiles,
        "--data": request.data is not None and request.max_top1_drop is None,
    }
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} is for TensorRT engines; add --trt, or leave it out")


def _refuse_limit_options(request: ExportRequest) -> None:
    """Check the options that go with a limit.

    Raises:
        click.UsageError: If they do not fit together.
    """
    if request.max_top1_drop is None:
        return
    if not request.to_onnx:
        raise click.UsageError("--max-top1-drop chooses layers of ONNX files; add --onnx")
    if request.data is None:
        raise click.UsageError(
            "--max-top1-drop is measured on photos; add --data with a folder of them"
        )
    if not set(request.precisions) & set(QUANTIZED_NAMES):
        raise click.UsageError(
            "--max-top1-drop is for quantized files; add int8, int8-cpu or fp8 to --precision"
        )
    others = (
        ("--features", request.features),
        ("--boxes-by", request.boxes_by),
        ("--lpips", request.lpips),
        ("--perceptual", request.perceptual),
        ("--gram", request.gram),
    )
    for name, value in others:
        if value:
            raise click.UsageError(f"--max-top1-drop is measured on scores; leave {name} out")
    interface = {
        "--whole-images": request.whole_images is not None,
        "--fixed-shape": request.fixed_shape is not None,
    }
    for name, is_given in interface.items():
        if is_given:
            raise click.UsageError(
                "--max-top1-drop judges files that take photos rescaled to Q; find the layers "
                f"without {name}, and name them with --keep"
            )
    four_bits = [name for name in request.precisions if name.startswith("int4")]
    if request.low_rank or four_bits:
        raise click.UsageError(
            f"--max-top1-drop chooses layers of 8 bits; export "
            f"{'--low-rank' if request.low_rank else four_bits[0]} files without it, and judge "
            "them with vgg-bench --max-top1-drop"
        )


def _refuse_options_of_triton(request: ExportRequest) -> None:
    """Refuse, where no repository is written, what would have no effect.

    Raises:
        click.UsageError: For the first such option.
    """
    given = {
        "--triton-photos": bool(request.triton_photos),
        "--triton-backend": request.triton_backend != ServingOptions().backend,
    }
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} is for Triton's repository; add --triton FOLDER")


def _refuse_distance_options(request: ExportRequest) -> None:
    """Check the options that make files of distances.

    Raises:
        click.UsageError: If they do not fit together.
    """
    given = [
        name
        for name, value in (
            ("--lpips", request.lpips),
            ("--perceptual", request.perceptual),
            ("--gram", request.gram),
        )
        if value
    ]
    if not given:
        return
    if len(given) > 1:
        raise click.UsageError(
            f"{' and '.join(given)}: a file gives one distance; export them one after the other"
        )
    if not request.to_onnx:
        raise click.UsageError(f"{given[0]} says what ONNX files give; add --onnx")
    others = (
        ("--features", request.features),
        ("--boxes-by", request.boxes_by),
        ("--sensitivity", request.sensitivity),
        ("--ncnn", request.to_ncnn),
        ("--classes", request.classes),
    )
    for name, value in others:
        if value:
            raise click.UsageError(
                f"{name}: does not go with {given[0]}, whose files give the distance of two "
                "images; leave one of them out"
            )
