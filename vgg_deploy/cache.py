"""Locates the cache, whose files can all be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache's folder, which may not exist yet.

    Returns:
        $VGG_DEPLOY_CACHE if it is set, else `vgg-deploy` in the user's cache folder.
    """
    own = os.environ.get("VGG_DEPLOY_CACHE")
    if own:
        return Path(own)
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "vgg-deploy"
