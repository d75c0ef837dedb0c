"""How images are scored, and where their posteriors are stored."""

from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.job import ALONE, Job


@dataclass(frozen=True)
class Storage:
    """Where cells are stored, and in which precision."""

    folder: Path
    dtype: str  # "float32", "float16"


@dataclass(frozen=True)
class Scoring:
    """How the images of a data set are scored."""

    storage: Storage
    batch: int  # most views per call of a net
    threads: int  # decoding processes of each process of the job; at least one
    on_error: str  # "stop" or "skip" at unreadable images
    job: Job = ALONE
