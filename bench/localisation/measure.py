"""Measures localisation errors: every image once, at all scales, in all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np

from bench.localisation.box_nets import BoxNet
from bench.localisation.constant_box import ConstantBox, best_constant_box
from bench.localisation.rows import LocalisationRow
from bench.localisation.see_image import FIRST, Answers, ImageSeen, Nets
from bench.models.model import Model
from vgg_deploy.boxes.localisation_error import LEAST_OVERLAP, best_overlap, rank_of_right_answer
from vgg_deploy.data.class_labels import labels_for, matched_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.data.image_sizes import image_sizes
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job
from vgg_deploy.progress import progress
from vgg_deploy.scoring import wilson_pct

MISSED = 1_000_000  # a rank that is never reached; there may be fewer classes than answers
CONSTANT = "best constant box"  # in place of a net's name


@dataclass(frozen=True)
class LocalisationRecord:
    """One row of localisation.csv; field names are its columns.

    What a row does not have is NaN, and missing in the CSV.
    """

    model: str  # the classifier
    boxes_by: str
    boxes: str  # "shared", "per-class"
    protocol: str
    scales: str
    images: int
    true_class_error_pct: float  # of the box of the true class
    true_class_low_pct: float  # 95 % interval
    true_class_high_pct: float
    mean_iou_pct: float  # of that box
    top1_error_pct: float  # label and box
    top1_low_pct: float
    top1_high_pct: float
    top5_error_pct: float
    top5_low_pct: float
    top5_high_pct: float
    label_top1_error_pct: float  # of the labels alone
    label_top5_error_pct: float


class Judged(NamedTuple):
    """A row, image by image.

    Attributes:
        rank: (images,) int64, of the first answer whose label and box are right; MISSED if none.
        label_rank: (images,) likewise of the label alone.
        overlap: (images,) float64, intersection over union of the box of the true class.
    """

    rank: np.ndarray
    label_rank: np.ndarray
    overlap: np.ndarray


class Localised(NamedTuple):
    """What all images show.

    Attributes:
        records: One per row, then that of the best constant box.
        rows: Of the table.
        judged: One per row.
        constant: The best constant box.
        kept: (images,) int64 of the data set: those that could be read.
        skipped: What is wrong with the others.
    """

    records: list[LocalisationRecord]
    rows: list[LocalisationRow]
    judged: list[Judged]
    constant: ConstantBox
    kept: np.ndarray
    skipped: list[str]


def join_nets(
    classifiers: Sequence[Model], box_nets: Sequence[BoxNet], dataset: Dataset
) -> list[list[np.ndarray]]:
    """Number the classes of classifiers as the box nets do, and check that the nets fit together.

    Args:
        classifiers: They choose the labels.
        box_nets: They state the boxes.
        dataset: The images.

    Returns:
        For each classifier, and in it for each box net: (classes,) int64.

    Raises:
        InputError: For nets of other crops, resampling filters or classes.
    """
    crop, filter = box_nets[0].spec.crop, box_nets[0].spec.preprocessing.filter
    for path, spec in [(net.path, net.spec) for net in box_nets] + [
        (model.path, model.runtime.spec) for model in classifiers
    ]:
        if (spec.crop, spec.preprocessing.filter) != (crop, filter):
            raise InputError(
                f"{path}: has a crop of {spec.crop} and the filter {spec.preprocessing.filter}, "
                f"{box_nets[0].path} has {crop} and {filter}; windows of both must be the same"
            )
    joined = []
    for model in classifiers:
        ids = matched_classes(dataset, model.runtime.spec, str(model.path), model.classes_stated)
        joined.append([_numbers(ids, net, model, dataset) for net in box_nets])
    return joined


def _numbers(ids: tuple[str, ...], net: BoxNet, model: Model, dataset: Dataset) -> np.ndarray:
    """(classes,) the box net's number of each class of a classifier."""
    own = matched_classes(dataset, net.spec, str(net.path))
    number_of = {id: number for number, id in enumerate(own)}
    if set(own) != set(ids):
        raise InputError(
            f"{net.path}: states boxes of other classes than {model.path} scores; both must be "
            "trained on the same classes"
        )
    return np.array([number_of[id] for id in ids], np.int64)


def measure_localisation(
    nets: Nets,
    rows: list[LocalisationRow],
    dataset: Dataset,
    threads: int,
    on_error: str,
    job: Job,
) -> Localised:
    """Judge every row on every image; each process sees its share.

    Args:
        nets: Of the run.
        rows: Of the table.
        dataset: Images with boxes.
        threads: Processes that decode.
        on_error: "stop" or "skip" at unreadable images.
        job: The processes of the run.

    Returns:
        Complete in every process.

    Raises:
        InputError: For an unreadable image unless they are skipped, or if none can be read.
        CheckFailed: For a net whose boxes are not finite.
    """
    mine = _Share(nets, rows, dataset)
    mine.see(job.share(len(dataset)), threads, on_error)
    ranks, overlaps = job.sum(mine.ranks), job.sum(mine.overlaps)
    messages: dict[int, str] = {}
    for one in job.gather(mine.skipped):
        messages.update(one)
    kept = np.array([i for i in range(len(dataset)) if i not in messages], np.int64)
    if not len(kept):
        raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")
    judged = [
        Judged(ranks[number, 0, kept], ranks[number, 1, kept], overlaps[number, kept])
        for number in range(len(rows))
    ]
    some = dataset.take(kept)
    assert some.boxes is not None
    sizes = job.on_main(image_sizes, some)
    constant = best_constant_box(some.boxes, np.array(sizes, np.int64))
    records = [_record(nets, row, one) for row, one in zip(rows, judged, strict=True)]
    records.append(_constant_record(constant))
    skipped = [messages[index] for index in sorted(messages)]
    return Localised(records, rows, judged, constant, kept, skipped)


class _Share:
    """What one process finds."""

    def __init__(self, nets: Nets, rows: list[LocalisationRow], dataset: Dataset):
        self.nets, self.rows, self.dataset = nets, rows, dataset
        # zeros where another process looks, so that sums are all
        self.ranks = np.zeros((len(rows), 2, len(dataset)), np.int64)
        self.overlaps = np.zeros((len(rows), len(dataset)))
        self.skipped: dict[int, str] = {}
        self.labels = [
            labels_for(
                dataset,
                matched_classes(dataset, model.runtime.spec, str(model.path), model.classes_stated),
            )
            for model in nets.classifiers
        ]

    def see(self, share: np.ndarray, threads: int, on_error: str) -> None:
        """Look at the images of a share.

        Args:
            share: (images,) bool.
            threads: Processes that decode.
            on_error: "stop" or "skip".
        """
        filter = self.nets.box_nets[0].spec.preprocessing.filter
        sides = sorted({side for row in self.rows for side in row.sides})
        wanted = {Scale(side, filter): share for side in sides}
        with progress(f"boxes in {int(share.sum())} images", int(share.sum())) as bar:
            for index, images in decoded(self.dataset, wanted, threads):
                if isinstance(images, InputError):
                    if on_error == "stop":
                        raise images
                    self.skipped[index] = images.what
                else:
                    self._judge(index, {scale.side: image for scale, image in images.items()})
                bar.advance()

    def _judge(self, index: int, images: dict[int, np.ndarray]) -> None:
        assert self.dataset.boxes is not None
        true_boxes = self.dataset.boxes[index]
        seen = ImageSeen(self.nets, images, self.dataset.size(index))
        for number, row in enumerate(self.rows):
            label = int(self.labels[row.classifier][index])
            answers = seen.answers(row, label)
            self.ranks[number, :, index] = _ranks(answers, label, true_boxes)
            self.overlaps[number, index] = best_overlap(answers.of_true_class, true_boxes)


def _ranks(answers: Answers, label: int, true_boxes: np.ndarray) -> tuple[int, int]:
    """Ranks of the right answer, and of the right label; MISSED if there is none."""
    labels = answers.labels.tolist()
    rank = rank_of_right_answer(labels, list(answers.boxes), label, true_boxes)
    found = rank if rank < len(labels) else MISSED
    return found, labels.index(label) if label in labels else MISSED


def _record(nets: Nets, row: LocalisationRow, judged: Judged) -> LocalisationRecord:
    box_nets = [nets.box_nets[number] for number, _ in row.members]
    return LocalisationRecord(
        nets.classifiers[row.classifier].name,
        " + ".join(net.name for net in box_nets),
        ", ".join(dict.fromkeys(net.spec.boxes for net in box_nets)),
        row.protocol,
        row.scales,
        len(judged.rank),
        *_rate(judged.overlap <= LEAST_OVERLAP),
        float(100 * judged.overlap.mean()),
        *_rate(judged.rank >= 1),
        *_rate(judged.rank >= FIRST),
        float(100 * (judged.label_rank >= 1).mean()),
        float(100 * (judged.label_rank >= FIRST).mean()),
    )


def _constant_record(constant: ConstantBox) -> LocalisationRecord:
    return LocalisationRecord(
        "",
        CONSTANT,
        "",
        "",
        "",
        len(constant.right),
        *_rate(~constant.right),
        float(100 * constant.overlaps.mean()),
        *[nan] * 8,
    )


def _rate(wrong: np.ndarray) -> tuple[float, float, float]:
    """Error in per cent with its 95 % interval."""
    error = float(100 * wrong.mean())
    return error, *wilson_pct(error, len(wrong))
