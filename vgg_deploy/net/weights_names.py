"""Tells names of weights, such as torchvision:vgg16, from paths; and takes both as an argument.

Imported by commands before anything heavy.
"""

from pathlib import Path
from typing import Any

import click

TORCHVISION, TIMM, HUB = "torchvision:", "timm:", "hf-hub:"
URLS = ("https://", "http://")
NAMES_HELP = (
    "torchvision:vgg16, timm:vgg16.tv_in1k, hf-hub:OWNER/NAME, an https:// address, or a folder"
)


def is_name(text: str) -> bool:
    """Whether a text names weights somewhere else, and is no path.

    Example:
        >>> is_name("torchvision:vgg16"), is_name("./torchvision:vgg16")
        (True, False)
    """
    return text.startswith((TORCHVISION, TIMM, HUB, *URLS))


class WeightsArgument(click.Path):
    """A path, or a name of weights; a name stays the text that it is.

    A `Path` would make https:/host of https://host.
    """

    name = "path or name"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Path:
        """Read the text of an argument."""
        if isinstance(value, str) and is_name(value):
            return value
        path = super().convert(value, param, ctx)
        return Path(str(path))


WEIGHTS = WeightsArgument()
