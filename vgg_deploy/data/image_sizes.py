"""Reads the sizes of the images of a data set from their headers."""

from concurrent.futures import ThreadPoolExecutor

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress

THREADS = 8  # they wait for the disk


def image_sizes(dataset: Dataset) -> list[tuple[int, int] | None]:
    """Height and width of every image in pixels; None where the header cannot be read.

    Raises:
        Unreachable: If a shard cannot be read.
    """

    def size_of(index: int) -> tuple[int, int] | None:
        try:
            return dataset.size(index)
        except Unreachable:
            raise
        except InputError:
            return None  # the decoder names it

    sizes = []
    with (
        progress(f"sizes of {len(dataset)} images", len(dataset)) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for size in pool.map(size_of, range(len(dataset))):
            sizes.append(size)
            bar.advance()
    return sizes
