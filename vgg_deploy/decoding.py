"""Images decoded and rescaled ahead of who needs them, in their order.

Threads do it, for Pillow's decoders and resize let others run. Processes were tried: handing the pixels over through shared memory
took as long again as decoding and rescaling.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.preprocess import planes, resized

AHEAD = 4  # images a thread


class Scale(NamedTuple):
    """One way to rescale an image."""

    side: int  # of the shorter side, S or Q, pixels
    filter: str


Scaled = dict[Scale, np.ndarray]  # an image at every scale that wants it: (3, h, w) uint8 RGB, min(h, w) == side


def decoded(dataset: Dataset, wanted: Mapping[Scale, np.ndarray], threads: int) -> Iterator[tuple[int, Scaled | InputError]]:
    """(position, the image or what is wrong with it) of every image that any scale wants. Args: wanted, for each scale (images,) bool."""

    def scaled(index: int) -> Scaled | InputError:
        try:
            image = dataset.image(index)
        except InputError as error:
            return error
        return {scale: planes(resized(image, *scale)).contiguous().numpy() for scale, chosen in wanted.items() if chosen[index]}

    jobs: deque[tuple[int, Future]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in np.flatnonzero(np.any(list(wanted.values()), axis=0)).tolist():
                jobs.append((index, pool.submit(scaled, index)))
                if len(jobs) > AHEAD * threads:
                    done, job = jobs.popleft()
                    yield done, job.result()
            while jobs:
                done, job = jobs.popleft()
                yield done, job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
