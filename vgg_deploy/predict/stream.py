"""Turns a stream of images into a stream of results: in order, in batches, in bounded memory.

Images of one size share a batch; nothing is padded. An image whose size is rare would wait for
others of its size and hold back all results after it. So at most WINDOW images are under way; when
there are more, the size of the oldest goes as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.images.protocols import FIXED_SCALES, PROTOCOLS, googlenet_sides
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.predict.views import protocol_posteriors
from vgg_deploy.predict.whole_images import own_protocol, refuse_other_views
from vgg_deploy.runtimes.contract import Runtime

WINDOW = 256  # images that are under way at once
MOST_WAITING_BYTES = 512 * 2**20  # of their pixels

Pixels = dict[int, np.ndarray]  # by Q: (3, h, w) uint8 RGB with min(h, w) == Q
R = TypeVar("R")  # what is computed of an image
# Computes the results of images of one size, which are given by Q as (N, 3, h, w) uint8 RGB
Compute = Callable[[Mapping[int, np.ndarray]], Iterable[R]]


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image are averaged.

    Attributes:
        protocol: Name in PROTOCOLS.
        sides: Q, pixels.
        flips: Whether mirror images are averaged too, where the protocol leaves that open.
        batch: Most views per call of the net.
    """

    protocol: str
    sides: tuple[int, ...]
    flips: bool
    batch: int

    @classmethod
    def for_runtime(
        cls,
        runtime: Runtime,
        protocol: str | None = None,
        sides: int | Sequence[int] | None = None,
        flips: bool = True,
        batch: int = 16,
    ) -> "ViewPlan":
        """As `of`, for a file that may rescale whole images by itself.

        Args:
            runtime: With the file.
            protocol: Name in PROTOCOLS; None: dense, or what the file scores by itself.
            sides: As in `of`; None for a file that rescales means its own Q.
            flips: As the attribute.
            batch: As the attribute.

        Raises:
            InputError: As `of`, or for another Q or other views than the file's own.
        """
        protocol = protocol or own_protocol(runtime)
        if isinstance(sides, int):
            sides = (sides,)
        if protocol in PROTOCOLS:
            sides = refuse_other_views(runtime, protocol, sides)
        return cls.of(runtime.spec, protocol, sides, flips, batch)

    @classmethod
    def of(
        cls,
        spec: NetSpec,
        protocol: str = "dense",
        sides: int | Sequence[int] | None = None,
        flips: bool = True,
        batch: int = 16,
    ) -> "ViewPlan":
        """Check the settings, and fill in the scales.

        Args:
            spec: The net.
            protocol: Name in PROTOCOLS.
            sides: Q in pixels, one or several; None for the paper's single scale (section 4.1).
            flips: As the attribute.
            batch: As the attribute.

        Raises:
            InputError: For an unknown protocol, a Q below the crop or an empty batch; or for a Q
                where the protocol has its own.
        """
        if protocol not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise InputError(f"protocol {protocol!r} is unknown; choose from {known}")
        if batch < 1:
            raise InputError(f"a batch of {batch} images is empty; use at least 1")
        if protocol == FIXED_SCALES:
            if sides is not None:
                raise InputError(f"protocol {protocol} has scales of its own; state no Q")
            return cls(protocol, googlenet_sides(spec.crop), flips, batch)
        if sides is None:
            sides = spec.test_side
        chosen = (sides,) if isinstance(sides, int) else tuple(dict.fromkeys(sides))
        if not chosen:
            raise InputError("no Q is named; name at least one, in pixels")
        if min(chosen) < spec.crop:
            raise InputError(
                f"Q {min(chosen)} is below the crop {spec.crop} of the net, so no window fits; "
                f"the smallest Q is {spec.crop}"
            )
        return cls(protocol, chosen, flips, batch)


class Scored(NamedTuple):
    """An image's result.

    Attributes:
        number: Of the image in the stream, from 0.
        posterior: (classes,) float64, or what is wrong with the image.
    """

    number: int
    posterior: np.ndarray | InputError


def posteriors(
    runtime: Runtime, images: Iterable[Pixels | InputError], plan: ViewPlan
) -> Iterator[Scored]:
    """Score images as they come.

    Args:
        runtime: The net.
        images: Each at every Q of `plan`, or what is wrong with it.
        plan: How they are tested.

    Yields:
        One result per image, in the order of the images.

    Raises:
        CheckFailed: For posteriors that are not finite.
        InputError: If the file gives no scores.
    """

    def score(stacked: Mapping[int, np.ndarray]) -> np.ndarray:
        found = protocol_posteriors(runtime, stacked, plan.protocol, plan.flips, plan.batch)
        if not np.isfinite(found).all():
            raise CheckFailed(
                f"{runtime.where}: gives posteriors that are not finite; export it in another "
                "precision, or check its weights"
            )
        return found

    for number, result in enumerate(by_size(images, plan.batch, score)):
        yield Scored(number, result)


def by_size(
    images: Iterable[Pixels | InputError], batch: int, compute: Compute[R]
) -> Iterator[R | InputError]:
    """Compute something of images as they come, in batches of one size.

    Args:
        images: Each at every Q, or what is wrong with it.
        batch: Most images per call of `compute`.
        compute: Gives one result per image.

    Yields:
        The result of each image, or what is wrong with it, in the order of the images.
    """
    flow = _Flow(batch, compute)
    for number, image in enumerate(images):
        flow.add(number, image)
        yield from flow.take_ready()
    flow.finish()
    yield from flow.take_ready()


Shapes = tuple[tuple[int, ...], ...]  # of an image at every Q


class _Flow(Generic[R]):
    """Images that wait for others of their size, and results that wait for earlier ones."""

    def __init__(self, batch: int, compute: Compute[R]):
        self.batch, self.compute = batch, compute
        self.waiting: dict[Shapes, list[tuple[int, Pixels]]] = {}
        self.bytes = 0  # of the pixels that wait
        self.results: dict[int, R | InputError] = {}
        self.next = 0  # number of the image whose result is due

    def add(self, number: int, image: Pixels | InputError) -> None:
        """Take an image; compute a batch if it is full or if too much waits."""
        if isinstance(image, InputError):
            self.results[number] = image
        else:
            shapes = tuple(pixels.shape for pixels in image.values())
            group = self.waiting.setdefault(shapes, [])
            group.append((number, image))
            self.bytes += _bytes_of(image)
            if len(group) == self.batch:
                self._compute(shapes)
        while self.waiting and self._too_much(number):
            self._compute(self._oldest())

    def _too_much(self, number: int) -> bool:
        """Whether the oldest image must go now."""
        oldest = min(group[0][0] for group in self.waiting.values())
        return number - oldest >= WINDOW or self.bytes > MOST_WAITING_BYTES

    def finish(self) -> None:
        """Compute all that waits."""
        for shapes in list(self.waiting):
            self._compute(shapes)

    def take_ready(self) -> Iterator[R | InputError]:
        """The results that no earlier image holds back."""
        while self.next in self.results:
            yield self.results.pop(self.next)
            self.next += 1

    def _oldest(self) -> Shapes:
        return min(self.waiting, key=lambda shapes: self.waiting[shapes][0][0])

    def _compute(self, shapes: Shapes) -> None:
        numbers, images = zip(*self.waiting.pop(shapes), strict=True)
        self.bytes -= sum(_bytes_of(image) for image in images)
        stacked = {side: np.stack([image[side] for image in images]) for side in images[0]}
        self.results.update(zip(numbers, self.compute(stacked), strict=True))


def _bytes_of(image: Pixels) -> int:
    return sum(pixels.size for pixels in image.values())
