"""Opens the box nets and the images with their boxes, and measures localisation errors."""

from bench.inputs import BUILT_IN_IMAGES, Inputs, open_images
from bench.localisation.box_nets import BoxNet, open_box_nets
from bench.localisation.findings import LocalisationFindings
from bench.localisation.measure import join_nets, measure_localisation
from bench.localisation.rows import localisation_rows
from bench.localisation.see_image import Nets
from bench.request import BenchRequest
from vgg_deploy.boxes.answers import Merging
from vgg_deploy.command_line import say
from vgg_deploy.data.annotations import open_annotations, with_boxes
from vgg_deploy.data.blacklist import without_listed
from vgg_deploy.data.built_in_boxes import built_in_with_boxes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job


def box_nets_of(inputs: Inputs) -> list[BoxNet]:
    """Open the localisers.

    Args:
        inputs: The request and the classifiers.

    Raises:
        InputError: For a file that is no localiser, or scales below a net's crop.
    """
    request, taken = inputs.request, [model.name for model in inputs.models]
    paths, device = request.boxes.boxes_by, request.models.device
    nets = open_box_nets(paths, taken, device, inputs.threads)
    sides = request.tables.sides
    for net in nets:
        if sides and min(sides) < net.spec.crop:
            raise InputError(
                f"--scales {min(sides)}: below the crop {net.spec.crop} of {net.path}, so no "
                "window fits",
                f"the smallest Q is {net.spec.crop}",
            )
    return nets


def localise(inputs: Inputs, nets: list[BoxNet], job: Job) -> LocalisationFindings:
    """Measure every row.

    Args:
        inputs: The request and the classifiers.
        nets: The localisers.
        job: The processes of the run.

    Raises:
        InputError: For data that cannot be used, or nets that do not fit together.
        CheckFailed: For a net whose boxes are not finite.
    """
    request = inputs.request
    dataset = _dataset(request, inputs.threads, job)
    joined = job.on_all(join_nets, inputs.models, nets, dataset)
    merging = Merging(request.boxes.merge_match, request.boxes.merge_classes)
    together = Nets(inputs.models, nets, joined, request.tables.flips, merging)
    specs = [net.spec for net in nets]
    rows = localisation_rows(len(inputs.models), specs, request.tables.sides)
    localised = measure_localisation(
        together, rows, dataset, inputs.threads, request.data.on_error, job
    )
    return LocalisationFindings(dataset, together, localised)


def _dataset(request: BenchRequest, threads: int, job: Job) -> Dataset:
    """The images that have boxes and are not on the blacklist."""
    if request.data.data is None:
        count = request.data.images or BUILT_IN_IMAGES
        assert isinstance(count, int)  # "auto" was refused
        dataset = job.main_first(built_in_with_boxes, "val", count)
    else:
        dataset = job.on_main(_with_boxes, open_images(request, job), request, threads)
    if request.boxes.blacklist is None:
        return dataset
    kept: Dataset = job.on_main(without_listed, dataset, request.boxes.blacklist)
    say(f"Blacklist: {len(dataset) - len(kept):,} of {len(dataset):,} images do not count")
    return kept


def _with_boxes(dataset: Dataset, request: BenchRequest, threads: int) -> Dataset:
    annotations = open_annotations(request.boxes.boxes or "")
    coordinates = request.boxes.box_coordinates
    found = with_boxes(dataset, annotations, coordinates, threads, request.data.on_error)
    for line in found.lines("validation"):
        say(line)
    return found.dataset
