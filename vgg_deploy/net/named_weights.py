"""Finds the file of weights that are given by a name, a folder or a path.

    torchvision:vgg16                  torchvision's default weights; after a dot those of another
                                       entry: torchvision:vgg16.IMAGENET1K_FEATURES
    timm:vgg16.tv_in1k                 the repository timm/vgg16.tv_in1k on the Hugging Face Hub
    hf-hub:OWNER/NAME[@REVISION][/FILE]    any repository there
    https://HOST/FILE[#sha256=DIGEST]  any file
    FOLDER                             model.safetensors or pytorch_model.bin, as timm saves them

Each is downloaded once, by its project's own loader into its own cache.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.net.downloaded_files import downloaded
from vgg_deploy.net.hub_weights import HUB_FILES, hub_file
from vgg_deploy.net.torchvision_weights import torchvision_file
from vgg_deploy.net.weights_names import HUB, NAMES_HELP, TIMM, TORCHVISION, URLS, is_name
from vgg_deploy.net.weights_suffixes import WEIGHTS_SUFFIXES
from vgg_deploy.regular_files import is_folder, is_regular


@dataclass(frozen=True)
class Located:
    """A file of weights on this machine, and what the user called it.

    Attributes:
        path: The file.
        given: As the user gave it: a path, a folder or a name.
    """

    path: Path
    given: str

    @property
    def name(self) -> str:
        """What tables call it: the name that was given, or the name of the file or folder."""
        return self.given if is_name(self.given) else Path(self.given).name or self.given

    @property
    def line(self) -> str:
        """Which file was found; empty where the user named the file itself."""
        return "" if self.given == str(self.path) else f"{self.given}: {self.path}"


def locate(given: str | Path | Located) -> Located:
    """Find a file of weights, and download it if it is not in its cache.

    Paths are not looked at; whoever opens them says what is wrong.

    Args:
        given: A name, a path, or what was located before.

    Raises:
        InputError: For a name that is unknown or cannot be downloaded; the message says which file
            to put where. For a folder without weights, or with several.
    """
    if isinstance(given, Located):
        return given
    text = str(given)
    if text.startswith(TORCHVISION):
        return Located(torchvision_file(text), text)
    if text.startswith(TIMM):
        name = text.removeprefix(TIMM)
        if "." not in name:
            raise InputError(
                f"{text}: timm has several weights of a net, told apart by a tag; add it, as in "
                f"{TIMM}vgg16.tv_in1k"
            )
        return Located(hub_file(text, f"timm/{name}"), text)
    if text.startswith(HUB):
        return Located(hub_file(text, text.removeprefix(HUB)), text)
    if text.startswith(URLS):
        return Located(downloaded(text), text)
    if isinstance(given, Path) and text.startswith(tuple(url.replace("//", "/") for url in URLS)):
        raise InputError(f"{text}: is an address made into a Path, which changes it; give a str")
    path = Path(given)
    if is_folder(path):
        return Located(_in_folder(path), text)
    if ":" in text and not os.path.exists(path):
        raise InputError(f"{text}: no such file, and no name of weights; give {NAMES_HELP}")
    return Located(path, text)


def _in_folder(folder: Path) -> Path:
    """The weights of a folder that timm's or another project's save_pretrained wrote."""
    for name in HUB_FILES:
        if is_regular(folder / name):
            return folder / name
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from None
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(path.name for path in found[:5])
        raise InputError(f"{folder}: holds {len(found)} files of weights ({listed}); name one")
    raise InputError(
        f"{folder}: holds no weights; give a file, or a folder with {' or '.join(HUB_FILES)}"
    )
