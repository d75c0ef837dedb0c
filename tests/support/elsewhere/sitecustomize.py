"""Makes this Python look like one of another platform: loaded first in every process.

ELSEWHERE names what is missing there, separated by commas: a module, or module.attribute.
"""

import importlib
import os
import sys


def remove(name: str) -> None:
    """Remove a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    if not module:
        sys.modules[name] = None  # an import raises ImportError
        return
    owner = importlib.import_module(module)
    if hasattr(owner, attribute):
        delattr(owner, attribute)


for missing in filter(None, os.environ.get("ELSEWHERE", "").split(",")):
    remove(missing)
