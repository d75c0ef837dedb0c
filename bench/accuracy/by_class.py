"""Which classes a row gets wrong, and what it takes them for."""

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored


def class_accuracy(scored: Scored, classes: ClassIndex) -> pd.DataFrame:
    """One line a class that the data have, the worst first: class, name, images, top1_accuracy_pct, top5_accuracy_pct."""
    found = (
        pd.DataFrame({"class": scored.labels, "top1": scored.ranks < 1, "top5": scored.ranks < 5})
        .groupby("class")
        .mean()
        * 100
    )
    images = np.bincount(scored.labels, minlength=len(classes.ids))[found.index]
    table = pd.DataFrame(
        {
            **_described(scored),
            "class": [classes.ids[c] for c in found.index],
            "name": [classes.names[c] for c in found.index],
            "images": images,
            "top1_accuracy_pct": found.top1.to_numpy(),
            "top5_accuracy_pct": found.top5.to_numpy(),
        }
    )
    return table.sort_values(["top1_accuracy_pct", "class"], ignore_index=True)


def confusions(scored: Scored, classes: ClassIndex) -> pd.DataFrame:
    """One line a pair of true class and best class that differ, the most frequent first; with the share of the true class's images."""
    wrong = scored.best != scored.labels
    pairs, counts = np.unique(
        np.stack([scored.labels[wrong], scored.best[wrong]]), axis=1, return_counts=True
    )
    images = np.bincount(scored.labels, minlength=len(classes.ids))[pairs[0]]
    table = pd.DataFrame(
        {
            **_described(scored),
            "class": [classes.ids[c] for c in pairs[0]],
            "taken_for": [classes.ids[c] for c in pairs[1]],
            "name": [classes.names[c] for c in pairs[0]],
            "taken_for_name": [classes.names[c] for c in pairs[1]],
            "images": counts,
            "share_pct": 100 * counts / images,
        }
    )
    return table.sort_values(
        ["images", "class", "taken_for"], ascending=[False, True, True], ignore_index=True
    )


def _described(scored: Scored) -> dict:
    r = scored.record
    return {
        "model": r.model,
        "runtime": r.runtime,
        "precision": r.precision,
        "protocol": r.protocol,
        "scales": r.scales,
    }
