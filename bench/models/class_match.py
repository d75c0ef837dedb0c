"""Matches the classes of all nets of a run, by ids that they share."""

from bench.models.model import Model
from vgg_deploy.data.class_labels import matched_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import some
from vgg_deploy.net.spec import numbered


def classes_of_models(dataset: Dataset, models: list[Model]) -> list[tuple[str, ...]]:
    """Ids of each net's classes, in the order of its scores: those of the data, or the nets' own.

    Args:
        dataset: The images of the run.
        models: All models of the run.

    Raises:
        InputError: For a net that lacks classes of the data, or, if the data have no labels, for
            nets with different classes.
    """
    if dataset.labelled:
        return [
            matched_classes(dataset, model.runtime.spec, str(model.path), model.classes_stated)
            for model in models
        ]
    return _without_labels(models)


def _without_labels(models: list[Model]) -> list[tuple[str, ...]]:
    """Give nets with numbered classes the ids of the first net that has ids, by order."""
    first = next((model for model in models if not _only_numbered(model)), models[0])
    ids = first.runtime.spec.classes
    matched: list[tuple[str, ...]] = []
    for model in models:
        own = model.runtime.spec.classes
        if len(own) == len(ids) and _only_numbered(model):
            matched.append(ids)
        elif set(own) == set(ids):
            matched.append(own)
        else:
            what = (
                f"{model.path}: has the {len(own)} classes {some(own)}, {first.path} the "
                f"{len(ids)} classes {some(ids)}"
            )
            raise InputError(what, "without labels all models must have the same classes")
    return matched


def _only_numbered(model: Model) -> bool:
    spec = model.runtime.spec
    return not model.classes_stated and spec.classes == numbered(len(spec.classes))
