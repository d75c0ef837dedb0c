"""Finds torchvision's own VGG weights, and what torchvision says about them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.downloaded_files import check_digest, digest_in, fetch, matches_digest
from vgg_deploy.net.imagenet_classes import COUNT, assumed_order, imagenet_classes
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.net.weights_names import TORCHVISION


@dataclass(frozen=True)
class Release:
    """What torchvision says about a file of weights that it published.

    Attributes:
        name: Of the weights, such as VGG16_Weights.IMAGENET1K_V1.
        stated: Mean and std of its pipeline.
        classes: In the order of the scores; None for convolutions alone.
        classes_from: The order as a sentence, for people.
    """

    name: str
    stated: StatedInput
    classes: ClassList | None
    classes_from: str


def torchvision_file(given: str) -> Path:
    """The file of weights that torchvision publishes, in the cache of torch.hub.

    Args:
        given: "torchvision:vgg16", or with an entry: "torchvision:vgg16.IMAGENET1K_V1".

    Raises:
        InputError: For an unknown name, a file that cannot be downloaded, or one whose digest is
            not the one in its name.
    """
    entry = _entry(given)
    path = _cached(entry)
    digest = digest_in(path.name)
    if path.is_file():
        check_digest(path, digest, given)
    else:
        fetch(given, entry.value.url, path, digest)
    return path


def release_of(path: Path) -> Release | None:
    """What torchvision says about a file, if it is one that torchvision published.

    The file must have torchvision's name and the digest in it, wherever it lies. A net that was
    fine-tuned and saved under this name is another file.
    """
    digest = digest_in(path.name)
    if not digest:
        return None
    for name in _models():
        for entry in _entries(name):
            published = Path(urlsplit(entry.value.url).path).name
            if published == path.name and matches_digest(path, digest):
                return _release(entry)
    return None


def _release(entry: Enum) -> Release:
    weights, name = entry.value, f"{type(entry).__name__}.{entry.name}"
    pipeline = weights.transforms()
    mean, std = (getattr(pipeline, trait, None) for trait in ("mean", "std"))
    stated = StatedInput(tuple(mean), tuple(std)) if mean and std else StatedInput()
    categories = tuple(weights.meta.get("categories") or ())
    says = f"torchvision's {name} says"
    if entry.name.startswith("IMAGENET1K") and len(categories) == COUNT:
        classes = ClassList(imagenet_classes().ids, categories)
        return Release(name, stated, classes, assumed_order(says))
    if categories and len(set(categories)) == len(categories):
        return Release(name, stated, ClassList(categories, categories), f"named as {says}")
    return Release(name, stated, None, "")


def _entry(given: str) -> Enum:
    """The weights that a name stands for.

    Raises:
        InputError: For an unknown name.
    """
    name, _, chosen = given.removeprefix(TORCHVISION).partition(".")
    if name not in _models():
        raise InputError(f"{given}: torchvision has no such VGG; choose from {_joined(_models())}")
    entries = _entries(name)
    if not chosen:
        return type(entries[0]).__members__.get("DEFAULT", entries[0])
    for entry in entries:
        if entry.name == chosen:
            return entry
    raise InputError(
        f"{given}: torchvision has no such weights of {name}; choose from "
        f"{_joined(f'{TORCHVISION}{name}.{entry.name}' for entry in entries)}"
    )


def _models() -> list[str]:
    """Torchvision's VGGs, by name."""
    from torchvision.models import list_models

    names: list[str] = list_models(include="vgg*")
    return names


def _entries(name: str) -> list[Enum]:
    """The weights of a net, torchvision's default first."""
    from torchvision.models import get_model_weights

    return list(get_model_weights(name))


def _cached(entry: Enum) -> Path:
    import torch

    name = Path(urlsplit(entry.value.url).path).name
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names)
