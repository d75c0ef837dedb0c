"""Runs what `python -m train.transfer` asks for."""

from pathlib import Path

import numpy as np

from train.transfer.class_labels import ClassLabels, folder_classes, listed_classes
from train.transfer.descriptors import Descriptors, open_descriptors, other_images
from train.transfer.multi import measure_multi
from train.transfer.outcome import Outcome
from train.transfer.paper import caltech_of_paper, voc_of_paper
from train.transfer.request import ALL, TransferRequest
from train.transfer.single import SingleProtocol, draw_splits, measure_single
from train.transfer.svm import PACKAGE, check_installed
from train.transfer.tables import (
    check_folder,
    conclusion,
    print_classes,
    print_grid,
    print_paper,
    write_files,
)
from train.transfer.voc_lists import is_voc, read_truth
from vgg_deploy.command_line import say
from vgg_deploy.errors import InputError
from vgg_deploy.machine import total_memory_bytes

# float32, float64, liblinear's pairs; VOC's without difficult images once more
BYTES_PER_NUMBER = {"single": 4 + 8 + 16, "multi": 4 + 8 + 16 + 8}


def run(request: TransferRequest) -> Outcome:
    """Train, score, print and write.

    Args:
        request: The options.

    Raises:
        InputError: For folders or data that cannot be used, or too little memory.
    """
    check_installed()
    check_folder(request.out)
    descriptors = open_descriptors(request.features, request.layer, request.join)
    for line in other_images(descriptors):
        say(line, err=True)
    for part in descriptors.parts:
        say(f"{part.folder.path}: {part.layer} of {part.folder.settings.model.name}")
    method = _nets(descriptors)
    say(f"{method}: {len(descriptors.images)} images, {descriptors.width} numbers each")
    outcome = (_single if request.task == "single" else _multi)(descriptors, request)
    print_grid(outcome)
    print_classes(outcome)
    print_paper(outcome, method)
    for line in conclusion(outcome):
        say(line)
    record = _record(request, descriptors, outcome)
    write_files(request.out, outcome, descriptors.width, method, record)
    say(f"Written to {request.out}")
    return outcome


def _single(descriptors: Descriptors, request: TransferRequest) -> Outcome:
    labelled = _class_labels(descriptors, request)
    protocol = SingleProtocol(
        request.splits, request.train_per_class, request.test_per_class, request.seed
    )
    splits = draw_splits(labelled, protocol)
    tested = [len(split.test) for split in splits]
    say(
        f"{len(labelled.classes)} classes; {len(splits)} random splits of "
        f"{request.train_per_class} training images and {_most(request.test_per_class)} test "
        f"images per class: {len(splits[0].train)} and {max(tested)}"
    )
    _check_memory(request.task, len(splits[0].train), descriptors.width)
    data = caltech_of_paper(labelled.caltech, protocol)
    return measure_single(descriptors, labelled, splits, request.c_grid, data, request.seed)


def _class_labels(descriptors: Descriptors, request: TransferRequest) -> ClassLabels:
    if request.annotations is None:
        return listed_classes(descriptors.classes, descriptors.labels)
    if is_voc(request.annotations):
        raise InputError(
            f"{request.annotations}: is Pascal VOC, whose images show several classes", about="task"
        )
    labelled = folder_classes(request.annotations, descriptors.images)
    if labelled.without:
        say(
            f"Warning: {labelled.without} images of {request.annotations} have no features and "
            "are left out",
            err=True,
        )
    others = int((labelled.labels < 0).sum())
    if others:
        say(f"{others} images of the features are not in {request.annotations}; left out", err=True)
    return labelled


def _multi(descriptors: Descriptors, request: TransferRequest) -> Outcome:
    folder = request.annotations or Path()
    if not is_voc(folder):
        raise InputError(
            f"{folder}: has no ImageSets/Main as Pascal VOC has, which the multi task reads",
            about="annotations",
        )
    truth = read_truth(folder, request.train_set, request.test_set)
    rule = request.ap or ("2007" if truth.root.name == "VOC2007" else "2010")
    say(
        f"{len(truth.classes)} classes; {len(truth.train.ids)} images of {truth.train.name} to "
        f"learn from, {len(truth.test.ids)} of {truth.test.name} to score (labels: "
        f"{truth.train.source}, {truth.test.source}); C by VOC's rule of {rule}"
    )
    _check_memory(request.task, len(truth.train.ids), descriptors.width)
    data = voc_of_paper(truth)
    return measure_multi(descriptors, truth, request.c_grid, rule, data, request.seed)


def _most(images: int) -> str:
    return "all other images as" if images == ALL else f"up to {images}"


def _check_memory(task: str, rows: int, width: int) -> None:
    """Refuse what cannot fit.

    Raises:
        InputError: If the machine has too little memory for the training descriptors.
    """
    needed, total = BYTES_PER_NUMBER[task] * rows * width, total_memory_bytes()
    if total is not None and needed > total:
        raise InputError(
            f"{rows} training descriptors of {width} numbers need about {needed / 1e9:.0f} GB "
            f"while an SVM is trained, and this machine has {total / 1e9:.0f} GB",
            "average the scales, or take fewer images or nets",
            about="memory",
        )


def _nets(descriptors: Descriptors) -> str:
    """The nets and what was taken from them, as the tables name them: "D relu7 at Q 256,384"."""
    return " & ".join(
        f"{part.folder.settings.model.arch} {part.layer} at Q "
        f"{','.join(map(str, part.folder.settings.scales))}"
        for part in descriptors.parts
    )


def _record(
    request: TransferRequest, descriptors: Descriptors, outcome: Outcome
) -> dict[str, object]:
    """What was measured and how; the same for the same request and files."""
    from importlib.metadata import version

    from vgg_deploy import __version__

    return {
        "task": request.task,
        "data": outcome.data,
        "annotations": str(request.annotations) if request.annotations else None,
        "features": [
            {
                "folder": str(part.folder.path),
                "layer": part.layer,
                "averaged_from_a_stack": part.average,
                **part.folder.settings.to_fields(),
            }
            for part in descriptors.parts
        ],
        "width": descriptors.width,
        "c_grid": list(request.c_grid),
        "seed": request.seed,
        **_protocol(request, outcome),
        "versions": {
            "vgg-deploy": __version__,
            "numpy": np.__version__,
            PACKAGE: version(PACKAGE),
        },
    }


def _protocol(request: TransferRequest, outcome: Outcome) -> dict[str, object]:
    if request.task == "single":
        return {
            "splits": request.splits,
            "train_per_class": request.train_per_class,
            "test_per_class": request.test_per_class,
        }
    return {
        "train_set": request.train_set,
        "test_set": request.test_set,
        "c_chosen_by": outcome.measure,
    }
