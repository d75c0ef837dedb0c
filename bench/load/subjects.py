"""Makes an opened model one that other processes can open."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load.instance import Call
from bench.load.measure import Subject
from bench.models.model import Model
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.runtimes import open_runtime


@dataclass(frozen=True)
class OpenModel:
    """Opens a model in another process.

    Attributes:
        path: The file.
        device: "cpu" or "cuda".
        threads: On the CPU.
        runtime: Its name.
        precision: Of weights in PyTorch.
        stated: What is stated about the input of another project's weights.
    """

    path: Path
    device: str
    threads: int
    runtime: str
    precision: str
    stated: StatedInput = NOTHING_STATED

    def __call__(self) -> Call:
        """Open it.

        Raises:
            InputError: If it cannot be opened.
        """
        return open_runtime(
            self.path, self.device, self.threads, self.runtime, self.precision, self.stated
        )


def subject_of(model: Model, stated: StatedInput = NOTHING_STATED) -> Subject:
    """A model under load.

    Args:
        model: Opened, as the tables name it.
        stated: What is stated about the input of another project's weights.
    """
    path, runtime = model.path, model.runtime
    name, device = runtime.name, runtime.device
    given = stated if model.assumed else NOTHING_STATED
    precision = runtime.precision if name.startswith("torch") else "fp32"

    def open_with(threads: int) -> Callable[[], Call]:
        return OpenModel(path, device, threads, name, precision, given)

    return Subject(model.described, device, open_with)
