"""Images that cannot be read: reported before training where that is cheap, named once each where
they are skipped.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from train.feed.colour_statistics import Colours
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.progress import progress


class Skipped:
    """Names every unreadable image once."""

    def __init__(self, label: str, say: Callable[[str], None]):
        """Args: label, begins each line, such as "Left out"; say, prints a line."""
        self.label, self.say = label, say
        self.known: set[str] = set()

    def report(self, messages: Iterable[str]) -> None:
        """Args: messages, what is wrong with each image, its name in it."""
        for message in messages:
            if message not in self.known:
                self.known.add(message)
                self.say(f"{self.label} ({len(self.known)} so far): {message}")


def refuse_unreadable(colours: Colours) -> None:
    """Raises: InputError if images that the mean colour was measured on could not be read."""
    _refuse(list(colours.unreadable), colours.images + len(colours.unreadable), "training")


def check_headers(dataset: Dataset, threads: int) -> None:
    """Open every validation image and read its header, so that a bad one is found before the first
    epoch.

    Only the header is read; an image that is damaged further on is found by validation itself.
    Images in shards are not opened: their index was checked when the shards were made.
    Raises: InputError with the first unreadable image and their number.
    """
    if dataset.packed:
        return

    def fault(index: int) -> str | None:
        try:
            dataset.size(index)
        except InputError as error:
            return error.what
        return None

    count = len(dataset)
    with (
        progress(f"headers of {count} validation images", count) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        found = []
        for message in pool.map(fault, range(count)):
            bar.advance()
            if message:
                found.append(message)
    _refuse(found, count, "validation")


def _refuse(messages: list[str], looked_at: int, kind: str) -> None:
    if not messages:
        return
    more = (
        f" {len(messages)} of {looked_at} {kind} images that were looked at cannot be read"
        if len(messages) > 1
        else ""
    )
    raise UnreadableImage(f"{messages[0]}{'.' if more else ''}{more}")
