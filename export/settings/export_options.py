"""What vgg-export writes, as records. Their defaults are those of the command line, which reads them here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportOptions:
    """The ONNX files to write from one checkpoint."""

    precisions: tuple[str, ...] = ("fp32",)  # names of PRECISIONS
    form: str = "uint8"  # one of INPUT_FORMS
    keep: tuple[str, ...] = ()  # convolutions that are not quantized
    per_channel: bool = True  # scales of quantized weights
    calibration: Path | str | None = None  # folder or shards of images; None: the built-in ones
    calibration_images: int = 512  # of which some are held out to measure the cost
    method: str = "mse"  # one of METHODS
    external_data: bool = False  # weights in a file of their own beside the graph
    max_cost: float | None = (
        None  # most RMS error of a quantized file's scores, per cent; None: until it is broken
    )
    on_error: str = "stop"  # "stop" or "skip": what an unreadable calibration image does


@dataclass(frozen=True)
class EngineOptions:
    """The TensorRT engines to build from ONNX files."""

    flavour: str | None = None  # "tensorrt", "rtx"; None: the installed one
    targets: tuple[str, ...] = ()  # "sm80", ...; none: all that run the precision
    sides: tuple[int, ...] | None = None  # Q; None: by the net's S
    max_batch: int = 32
    profiles: str = "per-scale"  # one of PROFILE_RULES
    data: Path | str | None = None  # photos whose aspect ratios count
