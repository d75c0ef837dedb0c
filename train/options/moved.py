"""Says where the files of a run are now, if they are not where they were."""

from typing import NamedTuple

from vgg_deploy.regular_files import real_path


class Moved(NamedTuple):
    """New places of what a resumed run reads.

    Attributes:
        data: Folder or URL of the images; None if they are where they were.
        boxes: Annotations of a localiser's images, likewise.
    """

    data: str | None = None
    boxes: str | None = None

    @property
    def absolute(self) -> "Moved":
        """The same places whatever the working directory."""
        return Moved(absolute_place(self.data), absolute_place(self.boxes))


def absolute_place(place: str | None) -> str | None:
    """A path's absolute form; a URL as it is."""
    return str(real_path(place)) if place and "://" not in place else place
