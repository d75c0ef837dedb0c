"""Opens the images of a split, whether they have labels or not."""

import os
from pathlib import Path

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.unlabelled import lacks_labels, open_unlabelled
from vgg_deploy.impossible_names import impossible_names_refused


@impossible_names_refused()
def open_data(root: str | os.PathLike[str], split: str = "val", on_error: str = "stop") -> Dataset:
    """Open a data set: class folders, ILSVRC's validation set, tar shards, or images alone.

    Args:
        root: Folder, or URL of shards.
        split: "train" or "val". A folder of images without labels has one split, "val".
        on_error: "stop" or "skip": whether a file without an image's suffix is an error or is
            listed in `Dataset.skipped`.

    Raises:
        InputError: For anything missing, left over or contradictory; names the file.
    """
    place = root if isinstance(root, str) else Path(root)
    if split == "val" and lacks_labels(place):
        return open_unlabelled(place, on_error)
    return open_dataset(place, split, on_error)
