"""Turns the options about the machine into the settings of this process in its job."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from train.recipe.number_ranges import DEFAULT_CHECKPOINT_EVERY, DEFAULT_STEP_PATIENCE
from vgg_deploy.machine import available_cores

if TYPE_CHECKING:
    from train.options.run_settings import RunSettings


@dataclass(frozen=True)
class MachineOptions:
    """Options that do not change the result; None if not given.

    Attributes:
        device: By default cuda if there is one.
        threads: CPU threads; by default this process's share of the cores.
        workers: Loader processes; by default as many as `threads`.
        on_error: At unreadable images, "stop" or "skip".
        compiled: Run updates through `torch.compile`.
        checkpoint_every: Updates between checkpoints.
        tensorboard: Also write the tables for TensorBoard.
        step_patience: Longest wait for a batch, seconds.
    """

    device: str | None
    threads: int | None
    workers: int | None
    on_error: str
    compiled: bool = False
    checkpoint_every: int = DEFAULT_CHECKPOINT_EVERY
    tensorboard: bool = False
    step_patience: int = DEFAULT_STEP_PATIENCE


@contextmanager
def joined_job(options: MachineOptions) -> Iterator["RunSettings"]:
    """Join the processes of the job for the block.

    Import PyTorch in the block, not before it.

    Yields:
        The settings of this process.

    Raises:
        InputError: If the device or the package tensorboard is asked for and missing.
    """
    # Waiting threads must sleep, not spin: the loader's processes need the same cores. PyTorch
    # reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from train.options.run_settings import RunSettings
    from vgg_deploy.job import joined
    from vgg_deploy.machine import pick_device

    device = pick_device(options.device)
    with joined(device, step_patience=options.step_patience) as job:
        if options.tensorboard:
            from train.record.tensorboard import check_installed

            job.on_main(check_installed)
        threads = options.threads or max(1, available_cores() // job.local_world)
        yield RunSettings(
            device=device,
            threads=threads,
            workers=threads if options.workers is None else options.workers,
            on_error=options.on_error,
            compiled=options.compiled,
            checkpoint_every=options.checkpoint_every,
            tensorboard=options.tensorboard,
            step_patience=options.step_patience,
            job=job,
        )
