"""Counts the images whose EXIF block says that they are to be turned."""

from contextlib import suppress
from typing import NamedTuple

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import is_url
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress

MOST_LOOKED_AT = 5000  # headers; more are counted by a sample, spread evenly
MOST_REMOTE = 100  # of shards behind a URL, where each takes a request


class Rotated(NamedTuple):
    """How many images are to be turned."""

    turned: int
    looked_at: int


def count_rotated(dataset: Dataset) -> Rotated:
    """Read the headers of the images, or of a sample of them.

    Args:
        dataset: The images. One that cannot be read is not counted; the decoder reports it.
    """
    sample = dataset.subset(MOST_REMOTE if is_url(dataset.root) else MOST_LOOKED_AT)
    count = 0
    with progress("EXIF rotation", len(sample)) as bar:
        for index in range(len(sample)):
            with suppress(InputError):
                count += sample.orientation(index) != 1
            bar.advance()
    return Rotated(count, len(sample))


def rotation_line(dataset: Dataset, how: str) -> str | None:
    """What is done about the images that are to be turned; None if there are none.

    Args:
        dataset: The images; `dataset.upright` says what is done.
        how: What turns them, as the end of the sentence.
    """
    found = count_rotated(dataset)
    if not found.turned:
        return None
    of = f"{found.turned} of {found.looked_at} images"
    looked = " that were looked at" if found.looked_at < len(dataset) else ""
    if dataset.upright:
        return f"{of}{looked} carry an EXIF rotation, and are turned upright"
    return (
        f"{of}{looked} carry an EXIF rotation, which is not applied, as in ImageNet's published "
        f"numbers; {how}"
    )
