"""TensorRT for data centres and TensorRT for RTX: two packages, one API as far as it is used here.

Names are those of tensorrt 10 and 11 and of tensorrt_rtx 1; precision lives in the ONNX file, since flags for it are gone from
all but tensorrt 10.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from vgg_deploy.errors import InputError

SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


@dataclass(frozen=True)
class Flavour:
    """One of the two."""

    name: str
    runtime: str  # as tables call it
    module: str
    package: str

    def version(self) -> str | None:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def load(self) -> ModuleType:
        """Raises: InputError if it is not installed, or not whole."""
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise InputError(
                f"TensorRT flavour {self.name}: cannot be loaded ({error}); pip install {self.package}"
            ) from None


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "tensorrt", "tensorrt", "tensorrt"),
    "rtx": Flavour("rtx", "tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx"),
}


def pick_flavour(name: str | None) -> Flavour:
    """The named one, else the one that is installed, tensorrt first.

    Raises: InputError if neither is.
    """
    if name is not None:
        FLAVOURS[name].load()
        return FLAVOURS[name]
    for flavour in FLAVOURS.values():
        if flavour.version():
            return flavour
    raise InputError(
        "no TensorRT is installed; pip install tensorrt (data-centre GPUs), or tensorrt-rtx (RTX GPUs, builds without one)"
    )


def collecting_logger(trt: ModuleType) -> Any:
    """An ILogger that keeps everything: (severity, text) in `lines`. Failures come back as None, their reason only here."""

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity, text: str) -> None:
            self.lines.append((str(severity).rpartition(".")[2], text))

    return Log()


def errors_of(log: Any) -> str:
    """What went wrong, in TensorRT's own words, on one line."""
    wrong = [
        " ".join(text.split())
        for severity, text in log.lines
        if severity in ("ERROR", "INTERNAL_ERROR")
    ]
    return "; ".join(dict.fromkeys(wrong)) or "it gave no reason"
