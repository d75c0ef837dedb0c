"""Finds the installed package of each runtime; its version can change scores."""

from importlib.metadata import PackageNotFoundError, version

from vgg_deploy.errors import InputError

# One API; the second runs on GPUs and CPUs, but has no wheels for macOS or Linux on ARM
ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")

# Packages that provide a runtime, one of which is installed
PACKAGES = {
    "torch": ("torch",),
    "torch-compile": ("torch",),
    "onnxruntime": ONNXRUNTIME,
    "onnxruntime-tensorrt": ONNXRUNTIME,
    "onnxruntime-rtx": (
        "onnxruntime-ep-nv-tensorrt-rtx-cu13",
        "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    ),
    "openvino": ("openvino",),
    "openvino-bf16": ("openvino",),
    "ncnn": ("ncnn",),
    "ncnn-bf16": ("ncnn",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx",),
}


def runtime_package(runtime: str) -> str:
    """Find the installed package of a runtime.

    Args:
        runtime: Key of PACKAGES.

    Raises:
        InputError: If none is installed, or two that overwrite each other's files, so that it is
            chance which one runs.
    """
    packages = PACKAGES[runtime]
    versions = _installed(packages)
    if not versions:
        raise InputError(f"{runtime} is not installed; pip install {' or '.join(packages)}")
    if len(versions) > 1:
        described = " and ".join(f"{name} {number}" for name, number in versions.items())
        if packages != ONNXRUNTIME:
            raise InputError(
                f"{described} are both installed; keep the one for this CUDA, and run "
                f"`pip uninstall -y` with the other"
            )
        raise InputError(
            f"{described} are both installed and overwrite each other; run "
            f"`pip uninstall -y {' '.join(packages)}`, then `pip install onnxruntime-gpu` "
            "(it runs on CPUs too), or `pip install onnxruntime` where that has no wheel"
        )
    return next(iter(versions))


def runtime_version(runtime: str) -> str:
    """Version of the installed package of a runtime.

    Args:
        runtime: Key of PACKAGES.

    Raises:
        InputError: As `runtime_package`.
    """
    return version(runtime_package(runtime))


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
