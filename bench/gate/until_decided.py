"""Says after each step of scoring whether the gate is decided (--images auto)."""

import time

from bench.accuracy.fill_cells import Measured
from bench.accuracy.measure import accuracy_of
from bench.accuracy.protocols import Row
from bench.gate.judge import Judge, judge
from bench.gate.verdict import Gate
from bench.models.model import Model
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.printable import printable
from vgg_deploy.progress import LOG_EVERY, console
from vgg_deploy.statistics.evidence import Verdict


class UntilDecided:
    """A stopping rule: whether the images scored so far decide every check.

    It reports from time to time how many checks are still undecided.
    """

    def __init__(self, models: list[Model], rows: list[Row], dataset: Dataset, judge: Judge):
        """Start the clock of the reports.

        Args:
            models: All models of the run.
            rows: All rows of the accuracy table.
            dataset: The images.
            judge: What is asked of the models.
        """
        self.models, self.rows, self.dataset, self.judge = models, rows, dataset, judge
        self.reported = time.monotonic()

    def __call__(self, measured: Measured) -> bool:
        """Judge the images scored so far.

        Args:
            measured: Their posteriors.

        Returns:
            Whether every check is decided.
        """
        accuracy = accuracy_of(self.models, self.rows, self.dataset, measured, [])
        gate = judge(self.judge, accuracy, images_left_out(self.dataset, measured))
        undecided = gate.count(Verdict.UNDECIDED)
        if undecided and time.monotonic() - self.reported >= LOG_EVERY:
            self.reported = time.monotonic()
            console.print(printable(_progress_line(gate, undecided)))
        return not undecided


def images_left_out(dataset: Dataset, measured: Measured) -> list[str]:
    """Names and messages of the files of the data that were not scored.

    Args:
        dataset: The images.
        measured: What was scored of them.
    """
    return [*dataset.skipped, *measured.skipped]


def _progress_line(gate: Gate, undecided: int) -> str:
    line = f"{gate.images:,} images: {undecided} of {len(gate.checks)} checks undecided"
    if gate.images_to_decide:
        line += f", about {gate.images_to_decide:,} images may decide them"
    return line
