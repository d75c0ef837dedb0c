"""Defines where and how a run is computed."""

from dataclasses import dataclass

from train.recipe.number_ranges import DEFAULT_CHECKPOINT_EVERY, DEFAULT_STEP_PATIENCE
from vgg_deploy.job import ALONE, Job


@dataclass(frozen=True)
class RunSettings:
    """Where and how the work is done; nothing here changes the result beyond rounding.

    Attributes:
        device: "cpu" or "cuda".
        threads: CPU threads of this process.
        workers: Loader processes of this process.
        on_error: At unreadable images, "stop" or "skip".
        compiled: Whether updates run through `torch.compile`.
        checkpoint_every: Updates between checkpoints.
        tensorboard: Whether tables are also written for TensorBoard.
        step_patience: Longest wait for the loader processes, seconds.
        job: This process among those of the job.
        micro_batch: Replaces that of a run that is resumed; None keeps it.
    """

    device: str
    threads: int
    workers: int
    on_error: str
    compiled: bool = False
    checkpoint_every: int = DEFAULT_CHECKPOINT_EVERY
    tensorboard: bool = False
    step_patience: int = DEFAULT_STEP_PATIENCE
    job: Job = ALONE
    micro_batch: int | str | None = None
