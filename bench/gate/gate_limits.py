"""What a gate allows a model to lose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GateLimits:
    """What a model may lose. None means that there is no limit.

    Attributes:
        top1_drop: Largest loss of top-1 accuracy against the reference, percentage points.
        top5_drop: The same for top-5.
        agreement: Smallest share of images with the reference's best class, per cent.
        top1_error: Highest top-1 error of every model, also of the reference, per cent.
        posterior_difference: Largest difference from the reference of any class on any image, 0
            to 1.
        left_out: How many images may be left out; None means that no image may be.
        box_drop: Largest loss of images with a right box, percentage points.
        spearman: Smallest rank correlation of a distance file with the reference, 0 to 1.
        distance_error: Largest difference of any distance from the reference's.
        slowdown: Largest time more than the reference's or an earlier file's, per cent of that.
        memory: Largest peak of resident memory, MiB.
        size: Largest size of a model's files, 10^6 bytes.
    """

    top1_drop: float | None = None
    top5_drop: float | None = None
    agreement: float | None = None
    top1_error: float | None = None
    posterior_difference: float | None = None
    left_out: int | None = None
    box_drop: float | None = None
    spearman: float | None = None
    distance_error: float | None = None
    slowdown: float | None = None
    memory: float | None = None
    size: float | None = None

    def __bool__(self) -> bool:
        """Whether there is a gate at all."""
        return self.of_images or self.of_distances or self.of_costs

    @property
    def of_images(self) -> bool:
        """Whether a limit is judged on scored images."""
        alone = (self.left_out, self.box_drop)
        return self.of_classifiers or any(limit is not None for limit in alone)

    @property
    def of_costs(self) -> bool:
        """Whether a limit is about time, memory or size, which need no images."""
        return any(limit is not None for limit in (self.slowdown, self.memory, self.size))

    @property
    def of_distances(self) -> bool:
        """Whether a limit is about distance files."""
        return self.spearman is not None or self.distance_error is not None

    @property
    def of_classifiers(self) -> bool:
        """Whether a limit is about classifiers."""
        return self.compares or self.top1_error is not None

    @property
    def compares(self) -> bool:
        """Whether a limit compares a model with the reference."""
        given = (self.top1_drop, self.top5_drop, self.agreement, self.posterior_difference)
        return any(limit is not None for limit in given)

    @property
    def needs_labels(self) -> bool:
        """Whether a limit is about right and wrong answers."""
        given = (self.top1_drop, self.top5_drop, self.top1_error)
        return any(limit is not None for limit in given)

    @property
    def counts_images(self) -> bool:
        """Whether a limit is judged by the number of images for or against it."""
        return self.needs_labels or self.agreement is not None
