"""Finds the knee of a load curve: the highest load that is still served in time."""

from collections.abc import Sequence

from vgg_deploy.load_curve.measures import LoadPoint


def knee(points: Sequence[LoadPoint], limit: float) -> LoadPoint | None:
    """Find the highest load whose p99 stays within a limit.

    Loads are judged from the lowest upwards, and the first one over the limit ends the search: a
    higher load that happened to be fast does not count. A load with requests that were not
    answered is over the limit.

    Args:
        points: Measured loads in any order.
        limit: Of the 99th percentile, ms; such as a multiple of the median without load.

    Returns:
        None if no load stays within the limit. If it is the highest load that was measured, the
        knee may lie beyond it.
    """
    last = None
    for point in sorted(points, key=lambda point: point.offered):
        if point.failed or point.p99 > limit:
            break
        last = point
    return last
