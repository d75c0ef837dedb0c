"""Accuracy per class, and the classes that are confused."""

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from vgg_deploy.name_frames import named_frame


def class_accuracy(scored: Scored, classes: ClassIndex) -> pd.DataFrame:
    """Accuracy per class.

    Args:
        scored: A row with labels.
        classes: The numbering of classes.

    Returns:
        One row per class of the data, the worst first; columns: those of the row's model and
        protocol, class, name, images, top1_accuracy_pct, top5_accuracy_pct.
    """
    right = {"class": scored.labels, "top1": scored.ranks < 1, "top5": scored.ranks < 5}
    accuracy = 100 * pd.DataFrame(right).groupby("class").mean()
    table = named_frame(
        {
            **_described(scored),
            "class": [classes.ids[c] for c in accuracy.index],
            "name": [classes.names[c] for c in accuracy.index],
            "images": _images_per_class(scored, classes)[accuracy.index],
            "top1_accuracy_pct": accuracy.top1.to_numpy(),
            "top5_accuracy_pct": accuracy.top5.to_numpy(),
        }
    )
    return table.sort_values(["top1_accuracy_pct", "class"], ignore_index=True)


def confusions(scored: Scored, classes: ClassIndex) -> pd.DataFrame:
    """Classes that are taken for others.

    Args:
        scored: A row with labels.
        classes: The numbering of classes.

    Returns:
        One row per pair of true class and different best class, the most frequent first; columns:
        those of the row's model and protocol, class, taken_for, name, taken_for_name, images, and
        share_pct of the true class's images.
    """
    wrong = scored.ranks > 0
    pairs = np.stack([scored.labels[wrong], scored.best[wrong]])
    (true, best), counts = np.unique(pairs, axis=1, return_counts=True)
    table = named_frame(
        {
            **_described(scored),
            "class": [classes.ids[c] for c in true],
            "taken_for": [classes.ids[c] for c in best],
            "name": [classes.names[c] for c in true],
            "taken_for_name": [classes.names[c] for c in best],
            "images": counts,
            "share_pct": 100 * counts / _images_per_class(scored, classes)[true],
        }
    )
    return table.sort_values(
        ["images", "class", "taken_for"], ascending=[False, True, True], ignore_index=True
    )


def _images_per_class(scored: Scored, classes: ClassIndex) -> np.ndarray:
    return np.bincount(scored.labels, minlength=len(classes.ids))


def _described(scored: Scored) -> dict[str, str]:
    record = scored.record
    return {
        "model": record.model,
        "runtime": record.runtime,
        "precision": record.precision,
        "protocol": record.protocol,
        "scales": record.scales,
    }
