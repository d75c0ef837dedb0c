"""Opens a file of a runtime again, or a changed copy of it, exactly as the runtime did."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

OTHER_FOLDER = "free space there, or name another folder with TMPDIR"


def reopened(runtime: OnnxRuntime, model: str | bytes, profile: Path | None = None) -> Any:
    """A session with the options and the provider of a runtime's own.

    Args:
        runtime: The file in ONNX Runtime.
        model: The file, or a copy of it.
        profile: Where the profiler writes; None to leave it off.

    Raises:
        InputError: If ONNX Runtime does not open it.
    """
    import onnxruntime as ort

    own = runtime.session
    options = own.get_session_options()
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    settings = own.get_provider_options()
    providers = [(name, settings.get(name, {})) for name in own.get_providers()[:1]]
    try:
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except runtime.failures as error:
        raise InputError(
            f"{runtime.where}: ONNX Runtime does not open it again to look at its layers "
            f"({str(error).strip()[:200]})",
            EXPORT_AGAIN,
        ) from None
    finally:
        options.enable_profiling = False


def profile_folder() -> "TemporaryDirectory[str]":
    """A folder for a profile; as a context it is removed at the end.

    Raises:
        InputError: If there is no room for it.
    """
    try:
        return TemporaryDirectory(prefix="vgg-bench-profile-")
    except OSError as error:
        raise InputError(
            f"{error.filename}: ONNX Runtime's profile cannot be written there "
            f"({error.strerror}); {OTHER_FOLDER}"
        ) from None
