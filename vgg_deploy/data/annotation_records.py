"""Defines what an annotation is, whatever the file that it comes from."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Marked(NamedTuple):
    """An object that somebody marked.

    Attributes:
        name: Its class.
        corners: xmin, ymin, xmax, ymax as written, pixels.
        where: Names the object in errors.
    """

    name: str
    corners: tuple[float, float, float, float]
    where: str


class Annotation(NamedTuple):
    """What is known about one image.

    Attributes:
        where: Names the annotation in errors.
        size: Width and height of the image, pixels; None if it does not say.
        objects: Those with a box.
    """

    where: str
    size: tuple[int, int] | None
    objects: Sequence[Marked]


class Annotations(Protocol):
    """Annotations of images, read when they are asked for."""

    @property
    def where(self) -> str:
        """Names them in errors."""

    @property
    def names(self) -> Sequence[str]:
        """Of the images: relative, with "/", without a suffix."""

    def read(self, index: int) -> Annotation:
        """Read the annotation of one image.

        Raises:
            InputError: If it cannot be used.
        """
