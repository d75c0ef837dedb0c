"""Lists what every row of the accuracy table says about every image: predictions.csv."""

from collections.abc import Iterator

import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.cell_rows import chunks
from vgg_deploy.name_frames import named_frame


def predictions(scored: Scored, files: list[str], classes: ClassIndex) -> Iterator[pd.DataFrame]:
    """The best class of every image by one row of the accuracy table.

    Args:
        scored: The row.
        files: Names of the images that the row holds.
        classes: The numbering of classes.

    Yields:
        Some images at a time, so that memory does not grow with the data. Columns of
        predictions.csv; label and rank are missing without labels.
    """
    record = scored.record
    for part in chunks(len(files)):
        count = part.stop - part.start
        labels = scored.labels[part].tolist() if scored.labelled else [None] * count
        ranks = (scored.ranks[part] + 1).tolist() if scored.labelled else [None] * count
        yield named_frame(
            {
                "model": record.model,
                "runtime": record.runtime,
                "precision": record.precision,
                "protocol": record.protocol,
                "scales": record.scales,
                "flips": record.flips,
                "image": files[part],
                "label": [None if label is None else classes.ids[label] for label in labels],
                "best": [classes.ids[best] for best in scored.best[part].tolist()],
                "posterior": scored.confidence[part],
                "rank": pd.array(ranks, dtype="Int64"),
            }
        )
