"""Which classes each net's scores are of, by ids that all nets of a run share."""

from bench.models.model import Model
from vgg_deploy.data.class_labels import matched_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import some
from vgg_deploy.net.spec import numbered


def classes_of_models(dataset: Dataset, models: list[Model]) -> list[tuple[str, ...]]:
    """Ids of each net's classes, in the order of its scores: those of the data, or the nets' own.

    Raises:
        InputError: For a net that lacks classes of the data; for nets with different classes where
            the data have no labels.
    """
    if dataset.labelled:
        return [
            matched_classes(dataset, model.runtime.spec, str(model.path), model.classes_stated)
            for model in models
        ]
    return _without_labels(models)


def _without_labels(models: list[Model]) -> list[tuple[str, ...]]:
    """A net whose classes are only numbered takes the ids of the first net that has any, by order."""
    named = [m for m in models if not _only_numbered(m)] or models
    ids = named[0].runtime.spec.classes
    matched = []
    for model in models:
        own = model.runtime.spec.classes
        if len(own) == len(ids) and _only_numbered(model):
            matched.append(ids)
        elif set(own) == set(ids):
            matched.append(own)
        else:
            raise InputError(
                f"{model.path}: has the {len(own)} classes {some(own)}, {named[0].path} the {len(ids)} classes "
                f"{some(ids)}; without labels all models must have the same classes"
            )
    return matched


def _only_numbered(model: Model) -> bool:
    spec = model.runtime.spec
    return not model.classes_stated and spec.classes == numbered(len(spec.classes))
