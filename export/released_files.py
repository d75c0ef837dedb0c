"""Records the files that an export wrote, and those that failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from export.quantize.cost import Cost
from export.verify.parity import ParityResult
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import Artifact


@dataclass(frozen=True)
class Exported:
    """One file that passed its checks and has its final name.

    Attributes:
        path: The file.
        artifact: Its description.
        size: In bytes, with the weights where they are in a separate file.
        comparisons: With the reference, by batch.
        kept: Convolutions of a quantized file that are not quantized.
        reference: Name of what it was compared with.
        cost: Of a quantized file.
    """

    path: Path
    artifact: Artifact
    size: int
    comparisons: list[ParityResult]
    kept: tuple[str, ...]
    reference: str = "PyTorch"
    cost: Cost | None = None


class FailedFile(NamedTuple):
    """One file that was not written."""

    name: str
    error: CheckFailed | InputError

    def text(self) -> str:
        """In one sentence."""
        reason = self.error.message.removeprefix(f"{self.name}: ")
        return f"{self.name} was not written: {reason}"


class PartlyExported(CheckFailed):
    """Some files failed. The message names those that were written and those that were not.

    Attributes:
        exported: Files that were written.
    """

    def __init__(self, exported: list[Exported], failures: list[FailedFile]):
        """Name the files.

        Args:
            exported: Files that were written.
            failures: Files that were not, at least one.
        """
        parts = [failure.text() for failure in failures]
        if exported:
            verb = "were" if len(exported) > 1 else "was"
            parts.insert(0, f"{', '.join(e.path.name for e in exported)} {verb} written")
        super().__init__("; ".join(parts))
        self.exported = exported
        # a failed check, 1, is a stronger result than an unusable file, 2
        self.exit_code = min(failure.error.exit_code for failure in failures)
