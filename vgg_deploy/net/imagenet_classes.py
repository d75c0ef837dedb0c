"""Names the 1,000 classes of ILSVRC-2012 for weights of projects that order them as all do.

torchvision gives the names of the classes, timm only their number. Both order them by their wnids.
"""

from functools import cache
from pathlib import Path

from vgg_deploy.net.class_lists import ClassList

WNIDS = Path(__file__).parent / "ilsvrc2012_wnids.txt"
COUNT = 1000


@cache
def imagenet_classes() -> ClassList:
    """The wnids in their order, which is that of the scores, with torchvision's names."""
    from torchvision.models import VGG16_Weights

    wnids = tuple(WNIDS.read_text(encoding="ascii").split())
    return ClassList(wnids, tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"]))


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
