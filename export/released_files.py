"""Records the files that an export wrote, and those that failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from export.distance.parity import DistortedParity, PairParity
from export.limit.record import LimitRecord
from export.quantize.cost import Cost
from export.verify.feature_cost import FeatureCost
from export.verify.feature_parity import FeatureParity
from export.verify.parity import ParityResult
from export.verify.rescale_parity import RescaleParity
from vgg_deploy.errors import CheckFailed, InputError, Undecided
from vgg_deploy.exported.distance_metadata import DistanceArtifact
from vgg_deploy.exported.metadata import Artifact


@dataclass(frozen=True)
class Exported:
    """One file that passed its checks and has its final name.

    Attributes:
        path: The file.
        artifact: Its description.
        size: In bytes, with the weights where they are in a separate file.
        comparisons: Of the scores with the reference's, by batch; empty if it gives none.
        features: Of the features with the reference's, by batch and layer.
        kept: Convolutions of a quantized file that are not quantized.
        reference: Name of what it was compared with.
        cost: Of a quantized file that gives scores.
        feature_costs: Of a quantized file, by layer.
        limit: How layers were chosen so that it keeps a limit; None if there was none.
        rescaled: Pixels of a file that takes whole images, beside Pillow's.
        checked: What gave the outputs that were compared: "file" or "float32 twin".
    """

    path: Path
    artifact: Artifact
    size: int
    comparisons: list[ParityResult]
    kept: tuple[str, ...]
    reference: str = "PyTorch"
    cost: Cost | None = None
    features: tuple[FeatureParity, ...] = ()
    feature_costs: tuple[FeatureCost, ...] = ()
    limit: LimitRecord | None = None
    rescaled: RescaleParity | None = None
    checked: str = "file"

    @property
    def rating(self) -> str:
        """Of the costs, in one word: the worst of them; empty if none was measured."""
        ratings = [cost.rating for cost in self.feature_costs]
        if self.cost:
            ratings.append(self.cost.rating)
        return next((word for word in ("broken", "high", "usual") if word in ratings), "")


@dataclass(frozen=True)
class ExportedDistance:
    """One distance file that passed its checks and has its final name.

    Attributes:
        path: The file.
        artifact: Its description.
        size: In bytes, with the weights where they are in a separate file.
        comparisons: With the reference's distances, by batch of check pairs.
        distorted: The same on photos and distorted photos.
        kept: Convolutions of a quantized file that are not quantized.
        reference: Name of what it was compared with.
    """

    path: Path
    artifact: DistanceArtifact
    size: int
    comparisons: tuple[PairParity, ...]
    distorted: DistortedParity
    kept: tuple[str, ...]
    reference: str


class FailedFile(NamedTuple):
    """One file that was not written."""

    name: str
    error: CheckFailed | InputError | Undecided

    def text(self) -> str:
        """In one sentence."""
        reason = self.error.message.removeprefix(f"{self.name}: ")
        return f"{self.name} was not written: {reason}"


class PartlyExported(CheckFailed):
    """Some files failed. The message names those that were written and those that were not.

    Attributes:
        exported: Files that were written.
        failures: Files that were not.
    """

    def __init__(self, exported: list[Exported], failures: list[FailedFile]):
        """Name the files.

        Args:
            exported: Files that were written.
            failures: Files that were not, at least one.
        """
        super().__init__(what_failed([file.path.name for file in exported], failures))
        self.exported, self.failures = exported, failures
        self.exit_code = exit_code_of(failures)


class DistancesPartlyExported(CheckFailed):
    """As `PartlyExported`, of distance files.

    Attributes:
        exported: Files that were written.
        failures: Files that were not.
    """

    def __init__(self, exported: list[ExportedDistance], failures: list[FailedFile]):
        """Name the files.

        Args:
            exported: Files that were written.
            failures: Files that were not, at least one.
        """
        super().__init__(what_failed([file.path.name for file in exported], failures))
        self.exported, self.failures = exported, failures
        self.exit_code = exit_code_of(failures)


def what_failed(written: list[str], failures: list[FailedFile]) -> str:
    """Name the files that were written and those that were not.

    Args:
        written: Names of files.
        failures: Files that were not written, at least one.
    """
    parts = [failure.text() for failure in failures]
    if written:
        verb = "were" if len(written) > 1 else "was"
        parts.insert(0, f"{', '.join(written)} {verb} written")
    return "; ".join(parts)


def exit_code_of(failures: list[FailedFile]) -> int:
    """The exit code: a failed check, 1, is a stronger result than an unusable file, 2.

    Weakest is a limit about which too few images were given, 3.
    """
    return min(failure.error.exit_code for failure in failures)
