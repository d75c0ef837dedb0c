"""Gathers the sources that a model.py of a Triton repository needs."""

import re
from importlib.resources import files

PACKAGE = "vgg_photo"  # in the model's folder; its modules lie flat in it
OURS = re.compile(r"^from (?:export\.tensorrt\.served|vgg_deploy(?:\.images)?)\.(\w+) import", re.M)
CORE = {
    "vgg_deploy": ("errors", "printable", "regular_files"),
    "vgg_deploy.images": ("encoded", "geometry", "jpeg_damage", "orientation"),
    "export.tensorrt.served": ("photo_rules",),
}


def photo_sources() -> dict[str, str]:
    """The sources of a photo model, by their path in the folder of its version.

    They import each other only, Pillow, NumPy, and what Triton brings.
    """
    sources = {"model.py": _text("export.tensorrt.served", "photo_model")}
    sources[f"{PACKAGE}/__init__.py"] = (
        '"""Copies of modules of vgg-deploy, written by vgg-export."""\n'
    )
    for package, modules in CORE.items():
        for module in modules:
            sources[f"{PACKAGE}/{module}.py"] = _text(package, module)
    return sources


def onnx_source() -> str:
    """The model.py of a net that the python backend runs."""
    return _text("export.tensorrt.served", "onnx_model")


def _text(package: str, module: str) -> str:
    """A module's source, which imports the copies of our other modules."""
    text = (files(package) / f"{module}.py").read_text(encoding="utf-8")
    return OURS.sub(rf"from {PACKAGE}.\1 import", text)
