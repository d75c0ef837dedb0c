"""Holds what was measured of boxes, for tables."""

from dataclasses import dataclass

from bench.localisation.measure import Localised
from bench.localisation.see_image import Nets
from vgg_deploy.data.dataset import Dataset


@dataclass(frozen=True)
class LocalisationFindings:
    """What was measured, and on what.

    Attributes:
        dataset: Images with boxes.
        nets: That were joined.
        localised: The rows.
    """

    dataset: Dataset
    nets: Nets
    localised: Localised
