"""Small folders of features, made here."""

from pathlib import Path

from vgg_deploy.features.settings import FeatureData, FeatureModel, FeatureSettings
from vgg_deploy.features.writer import feature_writer

MODEL = FeatureModel("D.pt", "a" * 64, "D", "torch", "fp32")
DATA = FeatureData("photos", "b" * 64)


def feature_settings(count=10, layers=None, **changes) -> FeatureSettings:
    """Settings of a folder with three images per shard."""
    given = {
        "model": MODEL, "data": DATA, "layers": layers or {"relu7": 6, "pool5": 4},
        "scales": (256, 384), "flips": True, "joined": "average", "l2": False,
        "count": count, "images_per_shard": 3,
    }  # fmt: skip
    return FeatureSettings(**{**given, **changes})


def write_features(folder: Path, images, classes, rows, **changes) -> Path:
    """Write a complete folder.

    Args:
        folder: Where.
        images: Names.
        classes: One per image.
        rows: (images, d) arrays by layer.
        changes: Of `feature_settings`.
    """
    layers = {layer: array.shape[1] for layer, array in rows.items()}
    settings = feature_settings(len(images), layers, **changes)
    with feature_writer(folder, settings) as writer:
        for shard in writer.shards:
            mine = settings.images_of(shard)
            part = {layer: array[mine.start : mine.stop] for layer, array in rows.items()}
            names = [images[i] for i in mine]
            writer.write(shard, names, [classes[i] for i in mine], part)
        writer.finish()
    return folder
