"""Says how a Triton repository serves, as data."""

from dataclasses import dataclass

from vgg_deploy.errors import InputError

BACKEND_NAMES = ("onnxruntime", "python")
VIEW_NAMES = ("crop", "dense")  # of the photos that are sent


@dataclass(frozen=True)
class ServingOptions:
    """What a repository has besides the nets, and what runs them.

    Attributes:
        backend: What runs ONNX files: Triton's onnxruntime backend, or a model.py of its python
            backend.
        photos: Some of VIEW_NAMES: models that take encoded image files.
        exif: What photo models do with the EXIF rotation, "ignore" or "apply".

    Raises:
        InputError: If a name is unknown.
    """

    backend: str = "onnxruntime"
    photos: tuple[str, ...] = ()
    exif: str = "ignore"

    def __post_init__(self) -> None:
        for name, chosen, known in (
            ("backend", (self.backend,), BACKEND_NAMES),
            ("view of photos", self.photos, VIEW_NAMES),
            ("exif", (self.exif,), ("ignore", "apply")),
        ):
            for one in chosen:
                if one not in known:
                    raise InputError(f"{name} {one!r} is unknown; choose from {', '.join(known)}")
