"""Holds what a net says about images: posteriors, and the best classes by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vgg_deploy.name_frames import named_frame
from vgg_deploy.net.spec import NetSpec

if TYPE_CHECKING:
    import pandas as pd


class Ranked(NamedTuple):
    """One of the best classes of an image.

    Attributes:
        rank: 1 for the best.
        id: Of the class: folder name, wnid or number.
        name: What people call it.
        posterior: 0 to 1.
    """

    rank: int
    id: str
    name: str
    posterior: float


class Prediction(NamedTuple):
    """The best classes of one image, the best first."""

    image: str
    best: tuple[Ranked, ...]

    def __str__(self) -> str:
        lines = [f"  {100 * one.posterior:6.2f} %  {one.name}" for one in self.best]
        return "\n".join([self.image, *lines])


def prediction(image: str, posterior: np.ndarray, spec: NetSpec, top: int) -> Prediction:
    """Rank the classes of one image.

    Args:
        image: Its name.
        posterior: (classes,) float.
        spec: Of the net, with the names.
        top: How many classes are listed; all of them if the net has fewer.

    Returns:
        Of equal posteriors the class that the net lists first comes first.
    """
    order = np.argsort(-posterior, kind="stable")[:top]
    return Prediction(
        image,
        tuple(
            Ranked(rank, spec.classes[c], spec.names[c], float(posterior[c]))
            for rank, c in enumerate(order.tolist(), start=1)
        ),
    )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a net says about some images, in their order.

    Attributes:
        images: Their names; images without one are numbered from 0.
        posterior: (images, classes) float32, in the order of the net's classes.
        spec: Of the net.
        top: How many classes a prediction lists.
    """

    images: tuple[str, ...]
    posterior: np.ndarray
    spec: NetSpec
    top: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Prediction:
        return prediction(self.images[index], self.posterior[index], self.spec, self.top)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __str__(self) -> str:
        return "\n".join(str(one) for one in self)

    def to_frame(self) -> "pd.DataFrame":
        """One row per image and listed class.

        Returns:
            Columns image, rank (1 for the best), class, name, posterior.
        """
        rows = [(one.image, *ranked) for one in self for ranked in one.best]
        return named_frame(rows, columns=["image", *COLUMNS])


COLUMNS = ("rank", "class", "name", "posterior")  # after the image, in tables of predictions
