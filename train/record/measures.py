"""Names the two numbers by which a task is judged, in tables, lines and drawings."""

from typing import NamedTuple

from train.recipe.config import CLASSIFY, LOCALISE, TrainConfig

SETS = ("train", "val")


class Measures(NamedTuple):
    """The numbers of one task, per cent.

    Attributes:
        first: Ends the names of columns of the error that chooses best.pt.
        second: Likewise of the other number.
        first_words: What people call the first.
        second_words: What people call the second.
        second_is_error: Whether the second is an error too.
    """

    first: str
    second: str
    first_words: str
    second_words: str
    second_is_error: bool = True

    def in_words(self, first: float, second: float) -> str:
        """Both numbers in a few words.

        Args:
            first: Per cent.
            second: Per cent.
        """
        if self.second_is_error:
            return f"{self.first_words} {first:.1f} %  {self.second_words} {second:.1f} % error"
        return f"{self.first_words} {first:.1f} % error  {self.second_words} {second:.1f} %"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of metrics.csv."""
        measured = [f"{kind}_{name}" for kind in SETS for name in (self.first, self.second)]
        return (
            *("epoch", "step", "lr", "train_loss", *measured),
            *("images_per_s", "elapsed_s", "val_images"),
        )

    @property
    def step_columns(self) -> tuple[str, ...]:
        """Of steps.csv."""
        return ("step", "epoch", "lr", "train_loss", f"train_{self.first}", "images_per_s")


MEASURES = {
    CLASSIFY: Measures("top1_error_pct", "top5_error_pct", "top-1", "top-5"),
    LOCALISE: Measures("localisation_error_pct", "mean_iou_pct", "localisation", "mean IoU", False),
}


def measures_of(config: TrainConfig) -> Measures:
    """The numbers of a run's task."""
    return MEASURES[config.task]
