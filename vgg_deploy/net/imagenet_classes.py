"""Names the 1,000 classes of ILSVRC-2012, and marks those of smaller test sets.

imagenet_classes.txt lists the wnids in sorted order, which is also the order of the scores of
torchvision's, timm's and Keras' nets. A and R mark the classes of ImageNet-A and ImageNet-R, as in
the evaluation scripts of their authors. torchvision gives the names of the classes.
"""

from functools import cache
from pathlib import Path

from vgg_deploy.net.class_lists import ClassList

LIST = Path(__file__).parent / "imagenet_classes.txt"
COUNT = 1000


@cache
def imagenet_wnids(mark: str = "") -> tuple[str, ...]:
    """The wnids in sorted order.

    Args:
        mark: Only those of a test set: "A" or "R".
    """
    lines = [line.split() for line in LIST.read_text(encoding="ascii").splitlines()]
    return tuple(wnid for wnid, *marks in lines if not mark or mark in marks)


@cache
def imagenet_classes() -> ClassList:
    """The wnids in their order, which is that of the scores, with torchvision's names."""
    from torchvision.models import VGG16_Weights

    return ClassList(imagenet_wnids(), tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"]))


def assumed_order(source: str) -> str:
    """The assumption as the end of the sentence "FILE: ...".

    Args:
        source: Who says that these are the classes of ILSVRC-2012.
    """
    ids, names = imagenet_classes()
    first = ", ".join(f"{id} {name}" for id, name in zip(ids[:2], names[:2], strict=True))
    return (
        f"its {COUNT} scores are taken to be ILSVRC-2012's classes in the order of their sorted "
        f"wnids ({first}, ...), as {source}"
    )
