"""Annotations as a folder of XML files, one per image, as VOC and ILSVRC have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.data.annotation_names import image_name
from vgg_deploy.data.annotation_records import Annotation, Marked
from vgg_deploy.data.directory import files_below
from vgg_deploy.data.voc_xml import read_voc
from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable

SUFFIX = ".xml"


@dataclass(frozen=True)
class XmlFolder:
    """The XML files below a folder; other files in it do not count.

    A file belongs to the image of the same name. What it says of the image's name does not count:
    in ILSVRC's files it has no suffix, and in some it is a placeholder.
    """

    folder: Path
    files: Sequence[Path]
    names: Sequence[str]

    @property
    def where(self) -> str:
        """Names the folder in errors."""
        return printable(str(self.folder))

    def read(self, index: int) -> Annotation:
        """Read one file.

        Raises:
            InputError: As `read_voc`.
        """
        path = self.files[index]
        found, where = read_voc(path), printable(str(path))
        objects = [
            Marked(one.name, one.corners, f"{where}, object {number} ({printable(one.name)})")
            for number, one in enumerate(found.objects, start=1)
            if one.corners is not None
        ]
        return Annotation(where, found.size, objects)


def list_folder(folder: Path) -> XmlFolder:
    """List the XML files of a folder and of all folders in it.

    Raises:
        InputError: If there are none, or a folder cannot be listed.
    """
    files = [path for path in files_below(folder) if path.suffix.lower() == SUFFIX]
    if not files:
        raise InputError(
            f"{printable(str(folder))}: has no XML files, expected one for each image as in Pascal "
            "VOC; a table of boxes ends with .csv"
        )
    names = [image_name(path.relative_to(folder).with_suffix("").as_posix()) for path in files]
    return XmlFolder(folder, files, names)
