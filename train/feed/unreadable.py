"""Reports unreadable images: before the training, or once each where they are skipped."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from train.feed.colour_statistics import Colours
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.progress import progress


class Skipped:
    """Names every unreadable image once."""

    def __init__(self, label: str, log: Callable[[str], None]):
        """Start without images.

        Args:
            label: Begins each line, such as "Left out".
            log: Prints a line.
        """
        self.label, self.log = label, log
        self.known: set[str] = set()

    def report(self, messages: Iterable[str]) -> None:
        """Print those that were not reported yet.

        Args:
            messages: What is wrong with each image, its name included.
        """
        for message in messages:
            if message not in self.known:
                self.known.add(message)
                self.log(f"{self.label} ({len(self.known)} so far): {message}")


def refuse_unreadable(colours: Colours) -> None:
    """Check that all images could be read when the mean colour was measured.

    Args:
        colours: The measurement.

    Raises:
        UnreadableImage: With the first unreadable image and their number.
    """
    _refuse(list(colours.unreadable), colours.images + len(colours.unreadable), "training")


def check_headers(dataset: Dataset, threads: int) -> None:
    """Read the header of every validation image, to find a bad one before the first epoch.

    An image that is damaged further on is found by validation itself. Images in shards are not
    opened: their index was checked when the shards were made.

    Args:
        dataset: Validation images.
        threads: That read.

    Raises:
        UnreadableImage: With the first unreadable image and their number.
    """
    if dataset.packed:
        return
    count = len(dataset)
    with (
        progress(f"headers of {count} validation images", count) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        messages = []
        for message in pool.map(partial(_header_fault, dataset), range(count)):
            bar.advance()
            if message:
                messages.append(message)
    _refuse(messages, count, "validation")


def _header_fault(dataset: Dataset, index: int) -> str | None:
    """What is wrong with the header of an image."""
    try:
        dataset.size(index)
    except InputError as error:
        return error.what
    return None


def _refuse(messages: list[str], checked: int, kind: str) -> None:
    if not messages:
        return
    more = ""
    if len(messages) > 1:
        more = f". {len(messages)} of {checked} {kind} images that were looked at cannot be read"
    raise UnreadableImage(f"{messages[0]}{more}")
