"""What a gate allows, as the options say it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GateLimits:
    """What a model may lose; None: not limited. Percentage points, and per cent of images."""

    top1_drop: float | None = None  # of accuracy, against the reference
    top5_drop: float | None = None
    agreement: float | None = None  # least, with the reference's best class
    top1_error: float | None = None  # of every model, the reference too
    posterior_difference: float | None = None  # largest of any class and image, 0 to 1
    left_out: int | None = None  # images; None: none may be left out

    def __bool__(self) -> bool:
        """Whether there is a gate at all."""
        return self.compares or self.top1_error is not None or self.left_out is not None

    @property
    def compares(self) -> bool:
        """Whether a limit needs a model beside the reference."""
        given = (self.top1_drop, self.top5_drop, self.agreement, self.posterior_difference)
        return any(limit is not None for limit in given)

    @property
    def needs_labels(self) -> bool:
        """Whether a limit is about right and wrong answers."""
        given = (self.top1_drop, self.top5_drop, self.top1_error)
        return any(limit is not None for limit in given)

    @property
    def counts_images(self) -> bool:
        """Whether a limit is judged by the number of images that speak for or against it."""
        return self.needs_labels or self.agreement is not None
