"""Any file with a VGG's weights, ours or another project's, as a net."""

from dataclasses import replace
from pathlib import Path

from vgg_deploy.checkpoint import build, is_checkpoint_file, load_checkpoint
from vgg_deploy.classes import ClassList
from vgg_deploy.errors import InputError
from vgg_deploy.model import VGG
from vgg_deploy.spec import NetSpec, numbered
from vgg_deploy.weights import Foreign, read_foreign


def open_net(path: Path, classes: ClassList | None = None) -> VGG:
    """A net in evaluation mode from a checkpoint or from foreign weights.

    Args: classes, (ids, names) for foreign weights, which do not name theirs; without it they are numbered.
    Raises: InputError if the file is no VGG, or has no fully connected layers to score with.
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".bin", ".tar") and is_checkpoint_file(path):
        checkpoint = load_checkpoint(path)
        if classes is not None:
            raise InputError(f"{path}: a checkpoint names its own classes; leave --classes out")
        return build(checkpoint.spec, checkpoint.weights)
    foreign = read_foreign(path)
    return build(foreign_spec(foreign, path, classes), foreign.weights)


def foreign_spec(foreign: Foreign, path: Path, classes: ClassList | None) -> NetSpec:
    """Describe foreign weights as a net of ours."""
    if foreign.class_count is None:
        raise InputError(
            f"{path}: holds the convolutions of {foreign.arch} only, without fc6-fc8; "
            f"train a head on them: python -m train --arch {foreign.arch} --weights {path} --freeze-features --data FOLDER"
        )
    ids, names = classes or (numbered(foreign.class_count), ())
    if len(ids) != foreign.class_count:
        raise InputError(f"{path}: scores {foreign.class_count} classes, --classes lists {len(ids)}; give the list the net was trained with")
    spec = NetSpec(foreign.arch, ids, names, foreign.width, foreign.crop, train_side=(max(256, foreign.crop),) * 2)
    return replace(spec, preprocessing=foreign.preprocessing, recipe=f"{foreign.layout} weights from {path.name}")
