"""Loads TensorRT for data centres or TensorRT for RTX: two packages, one API as far as used here.

Names are those of tensorrt 10 and 11 and of tensorrt_rtx 1. Precision is part of the ONNX file,
since only tensorrt 10 still has flags for it.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Protocol

from vgg_deploy.errors import InputError

SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


@dataclass(frozen=True)
class Flavour:
    """One of the two packages.

    Attributes:
        name: "tensorrt" or "rtx".
        runtime: As tables call it.
        module: To import.
        package: To install.
    """

    name: str
    runtime: str
    module: str
    package: str

    def version(self) -> str | None:
        """Version of the installed package; None without it."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def load(self) -> ModuleType:
        """Import the package.

        Raises:
            InputError: If it is not installed, or not completely.
        """
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise InputError(
                f"TensorRT flavour {self.name}: cannot be loaded ({error}); "
                f"pip install {self.package}"
            ) from None


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "tensorrt", "tensorrt", "tensorrt"),
    "rtx": Flavour("rtx", "tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx"),
}


class Log(Protocol):
    """A logger of TensorRT that keeps everything."""

    lines: list[tuple[str, str]]  # (severity, text)


def pick_flavour(name: str | None) -> Flavour:
    """Choose the named package, else an installed one, tensorrt first.

    Args:
        name: Key of FLAVOURS, or None.

    Raises:
        InputError: If the named package, or every package, is missing.
    """
    if name is not None:
        FLAVOURS[name].load()
        return FLAVOURS[name]
    for flavour in FLAVOURS.values():
        if flavour.version():
            return flavour
    raise InputError(
        "no TensorRT is installed; pip install tensorrt (data-centre GPUs), or tensorrt-rtx "
        "(RTX GPUs, builds without one)"
    )


def collecting_logger(trt: ModuleType) -> Log:
    """Make an ILogger that keeps everything.

    TensorRT's functions return None when they fail, and give the reason only here.

    Args:
        trt: tensorrt or tensorrt_rtx.
    """
    base: Any = trt.ILogger

    class Collector(base):  # type: ignore[misc]  # of an untyped package, known at run time only
        def __init__(self) -> None:
            base.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: object, text: str) -> None:
            self.lines.append((str(severity).rpartition(".")[2], text))

    return Collector()


def errors_of(log: Log) -> str:
    """Join the errors that TensorRT logged, on one line."""
    errors = [
        " ".join(text.split())
        for severity, text in log.lines
        if severity in ("ERROR", "INTERNAL_ERROR")
    ]
    return "; ".join(dict.fromkeys(errors)) or "it gave no reason"
