"""Where things that can be made again are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$VGG_DEPLOY_CACHE, else vgg-deploy in the user's cache folder; may not exist yet."""
    if named := os.environ.get("VGG_DEPLOY_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vgg-deploy"
