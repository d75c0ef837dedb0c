"""Imports OpenVINO without its telemetry."""

import sys
from types import ModuleType

from vgg_deploy.errors import InputError

TELEMETRY = "openvino_telemetry"


def load_openvino() -> ModuleType:
    """Import OpenVINO.

    Its import writes files to the home folder and reports to Intel. Where the package for that
    cannot be imported, OpenVINO uses a stub of its own. So it is hidden meanwhile.

    Raises:
        InputError: If it is not installed; says how to install it.
    """
    is_hidden = "openvino" not in sys.modules and TELEMETRY not in sys.modules
    if is_hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # Python's way to hide a module
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"openvino cannot be imported ({error}); pip install vgg-deploy[openvino], or "
            "openvino alone"
        ) from None
    finally:
        if is_hidden:
            del sys.modules[TELEMETRY]
    module: ModuleType = openvino
    return module
