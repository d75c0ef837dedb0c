"""Guesses what somebody meant who typed a name that does not exist."""

import difflib
import re
from collections.abc import Iterable, Mapping

CLOSE = 0.6  # of difflib's ratio, 1 for equal texts
# The nets of Table 1 by their numbers of weight layers, as torchvision calls them
LAYERS_OF_NETS = {"11": "A", "13": "B", "16": "D", "19": "E"}


def did_you_mean(text: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """The end of a sentence about an unknown name.

    Case, punctuation and a prefix "VGG" do not count.

    Args:
        text: What was typed.
        known: The names that exist.
        synonyms: Names by other words for them, which consist of lower-case letters and digits.

    Returns:
        "; did you mean D?", or nothing if no name is near.

    Example:
        >>> did_you_mean("vgg-d", ["A", "A-LRN", "D"])
        '; did you mean D?'
        >>> did_you_mean("VGG16", ["A", "A-LRN", "D"], LAYERS_OF_NETS)
        '; did you mean D?'
        >>> did_you_mean("quux", ["fp16", "fp32"])
        ''
    """
    by_core = {_core(name): name for name in known}
    names = set(by_core.values())
    for word, name in (synonyms or {}).items():
        if name in names:
            by_core.setdefault(word, name)
    near = difflib.get_close_matches(_core(text), by_core, n=1, cutoff=CLOSE)
    return f"; did you mean {by_core[near[0]]}?" if near else ""


def _core(text: str) -> str:
    letters = re.sub("[^a-z0-9]", "", text.lower())
    return letters.removeprefix("vgg") or letters
