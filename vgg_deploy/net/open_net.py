"""Opens any file with the weights of a VGG, ours or another project's, as a net."""

from collections.abc import Callable
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import build, is_checkpoint_file, load_checkpoint
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.class_matching import with_classes
from vgg_deploy.net.foreign_heads import refuse_one_output
from vgg_deploy.net.foreign_weights import Assumed, Foreign, read_foreign
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.net.torch_files import TORCH_SUFFIXES

USUAL_CROP = 224  # of convolutions alone, which do not show theirs; pixels


def is_own(path: Path) -> bool:
    """Whether a file is a checkpoint of this program, not of another project.

    Raises:
        InputError: If it has the suffix of a torch file and cannot be read.
    """
    return path.suffix in TORCH_SUFFIXES and is_checkpoint_file(path)


def open_net(
    source: str | Path | Located,
    classes: ClassList | None = None,
    stated: StatedInput = NOTHING_STATED,
    on_assumed: Callable[[Assumed], None] | None = None,
) -> VGG:
    """Open a checkpoint or foreign weights as a net that scores classes, in evaluation mode.

    Args:
        source: The file, or a folder or a name such as "torchvision:vgg16", see `locate`.
        classes: In the order of the scores, for weights that do not name theirs; without it such
            weights are numbered from 0.
        stated: What the caller knows about the input of foreign weights.
        on_assumed: Called with what was assumed, for foreign weights only.

    Raises:
        InputError: If the file is not found, is no VGG, has no fully connected layers to score
            with, is a localiser, or contradicts what is stated.
    """
    located = locate(source)
    net = open_layers(located, classes, stated, on_assumed)
    refuse_without_scores(net.spec, str(located.path))
    return net


def open_layers(
    source: str | Path | Located,
    classes: ClassList | None = None,
    stated: StatedInput = NOTHING_STATED,
    on_assumed: Callable[[Assumed], None] | None = None,
) -> VGG:
    """Open a net as `open_net`, a localiser, or convolutions alone as a net without a head.

    Args:
        source: As in `open_net`.
        classes: As in `open_net`; not for convolutions alone.
        stated: As in `open_net`.
        on_assumed: As in `open_net`.

    Raises:
        InputError: If the file is not found, is no VGG, or contradicts what is stated.
    """
    path = locate(source).path
    if is_own(path):
        if stated != NOTHING_STATED:
            raise InputError(f"{path}: a checkpoint knows its own input and crop; state none")
        checkpoint = load_checkpoint(path)
        spec = checkpoint.spec
        if classes:
            spec = with_classes(spec, classes, str(path))
        return build(spec, checkpoint.weights)
    foreign = read_foreign(path, stated=stated)
    spec = foreign_spec(foreign, path, classes, stated.crop)
    if on_assumed:
        on_assumed(foreign.assumed)
    return build(spec, foreign.weights)


def refuse_without_scores(spec: NetSpec, where: str) -> None:
    """Refuse convolutions alone and localisers, where scores are wanted.

    Args:
        spec: Of the net.
        where: The file.

    Raises:
        InputError: If the net scores no classes.
    """
    if spec.boxes:
        raise InputError(
            f"{where}: is a localiser, which states boxes and scores no classes",
            "name a classifier here",
            "localiser",
        )
    if not spec.has_head:
        raise InputError(
            f"{where}: holds the convolutions of {spec.arch} only, without fc6-fc8",
            f"train a head of {spec.arch} on them",
            "head",
        )


def open_localiser(source: str | Path | Located) -> VGG:
    """Open the checkpoint of a localiser as a net in evaluation mode; its outputs are boxes.

    Args:
        source: As in `open_net`.

    Raises:
        InputError: If the file is not found, or is no localiser.
    """
    path = locate(source).path
    if not is_own(path):
        raise InputError(f"{path}: is no checkpoint of a localiser", "train one", "localiser")
    checkpoint = load_checkpoint(path)
    if not checkpoint.spec.boxes:
        raise InputError(
            f"{path}: is a classifier, which scores classes and states no boxes",
            "name a localiser here",
            "localiser",
        )
    return build(checkpoint.spec, checkpoint.weights)


def foreign_spec(
    foreign: Foreign, path: Path, classes: ClassList | None, crop: int | None = None
) -> NetSpec:
    """Describe foreign weights as a net of ours.

    Args:
        foreign: The weights.
        path: Their file.
        classes: As in `open_net`.
        crop: The training crop that the caller states, pixels.

    Raises:
        InputError: For a head with one output, another crop or number of classes than is stated;
            for classes of convolutions alone.
    """
    if foreign.class_count == 1:
        refuse_one_output(path)
    if foreign.class_count is None and classes:
        raise InputError(f"{path}: holds convolutions only, which score no classes; state none")
    if foreign.crop is not None and crop not in (None, foreign.crop):
        raise InputError(
            f"{path}: has fc6 for a crop of {foreign.crop}, not {crop}; "
            f"state {foreign.crop} or none"
        )
    own_crop = foreign.crop or crop or USUAL_CROP
    side = max(256, own_crop)
    spec = NetSpec(
        foreign.arch,
        numbered(foreign.class_count or 0),
        (),
        foreign.width,
        own_crop,
        train_side=(side, side),
        preprocessing=foreign.preprocessing,
        recipe=f"{foreign.layout} weights from {path.name}, input {foreign.assumed.input}",
    )
    for listed in (foreign.classes, classes):
        if listed:
            spec = with_classes(spec, listed, str(path))
    return spec
