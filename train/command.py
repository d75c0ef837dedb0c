"""Dispatches the training commands to one net, a chain, its plan, or a sheet of views."""

from dataclasses import replace
from pathlib import Path

from train.chain import Chain, plan_chain, resume_chain, saved_chain, train_chain
from train.feed.colour_statistics import measure_colours
from train.feed.frozen_features import refuse_unless_given
from train.feed.unreadable import refuse_unreadable
from train.feed.view_sheet import draw_views
from train.feed.views import Views
from train.first_weights import options_of_localiser
from train.one_net import resume_run, train_one
from train.options.moved import Moved, absolute_place
from train.options.request import TrainRequest
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.recipe.recipe_options import RecipeOptions, make_config
from train.recipe.stages import CHAIN_FILE, CHAINS, side_of
from train.record.log import log
from train.sources import BUILT_IN, ImageRequest, Sources, open_sets
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job
from vgg_deploy.net.box_outputs import BOX_COORDINATES
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.net.weights_names import is_name
from vgg_deploy.newest import RUNS, newest_first, newest_run

NEWEST = "newest"  # in place of a folder's name
IMAGES_SHOWN = 6  # on a sheet of views


def train(request: TrainRequest, settings: RunSettings) -> None:
    """Train one net or a chain.

    Raises:
        InputError: For options, data or files that do not fit.
    """
    config, sources = _open(request, settings)
    if request.chain:
        chain = Chain(request.chain, request.arch, config, request.fine_tune)
        train_chain(chain, sources, request.out, request.stage, settings)
    else:
        train_one(config, sources, request.out, settings, request.recipe.init)


def plan(request: TrainRequest, folder: str | None, settings: RunSettings) -> None:
    """Show the stages of a chain; train nothing.

    Args:
        request: The options that would start the chain.
        folder: Of a chain that was started, or "newest"; its own options apply then.
        settings: Of this process.

    Raises:
        InputError: As `train`, and for the folder of a run of one net.
    """
    if folder is None:
        config, sources = _open(request, settings)
        chain = Chain(request.chain or "", request.arch, config, request.fine_tune)
        plan_chain(chain, sources, request.out, request.stage, settings)
        return
    path, is_chain = settings.job.on_main(_find, folder)
    if not is_chain:
        raise InputError(f"{path}: is a run of one net; only a chain has a plan")
    saved = settings.job.on_main(saved_chain, path)
    moved_to = absolute_place(request.data)
    sources = saved.open_sources(settings, moved_to)
    plan_chain(saved.chain, sources, path, saved.stage, settings, moved=moved_to is not None)


def resume(folder: str, moved: Moved, micro_batch: int | str | None, settings: RunSettings) -> None:
    """Resume a run or a chain.

    Args:
        folder: Of the run or chain, or "newest".
        moved: Where its images and boxes are now.
        micro_batch: Replaces the recipe's; None keeps it.
        settings: Of this process.

    Raises:
        InputError: For a folder without a run, and for data that changed.
    """
    path, is_chain = settings.job.on_main(_find, folder)
    moved = moved.absolute
    settings = replace(settings, micro_batch=micro_batch)
    if not is_chain:
        resume_run(path, settings, moved)
    elif moved.boxes:
        raise InputError(f"{path}: is a chain of classifiers; leave --boxes out")
    else:
        resume_chain(path, moved.data, settings)


def draw_views_of(request: TrainRequest, path: Path, settings: RunSettings) -> None:
    """Draw training images beside augmented crops of them.

    Args:
        request: The options of the training.
        path: Of the image, a PNG.
        settings: Of this process.

    Raises:
        InputError: For unreadable images unless they are skipped, and if the image cannot be
            written.
    """
    config, sources = _open(request, settings)
    colours = measure_colours(sources.train, settings.threads)
    if settings.on_error == "stop":
        refuse_unreadable(colours)
    views = Views(sources.train, config, Preprocessing(), colours.components())
    draw_views(views, IMAGES_SHOWN, path, settings.on_error)
    log(f"Views of training images, as a net gets them: {path}")


def _open(request: TrainRequest, settings: RunSettings) -> tuple[TrainConfig, Sources]:
    """Make the config from the options, and open the data."""
    if request.freeze_features:
        refuse_unless_given(request.weights)
    # the paper's where there is data to learn from, the small one for the built-in images
    recipe = "paper" if request.data or (request.weights and not request.localises) else "small"
    if request.data is None:
        _explain_built_in_images(recipe, request.localises)
    weights, net_a = (_locate(given, settings.job) for given in (request.weights, request.net_a))
    config = settings.job.on_all(_config, recipe, request, weights)
    boxes = None
    if request.localises:
        boxes = request.boxes or BUILT_IN
    images = ImageRequest(
        request.data,
        request.images,
        request.exif,
        absolute_place(boxes) if boxes != BUILT_IN else boxes,
        request.box_coordinates or BOX_COORDINATES[0],
    )
    train, val = open_sets(images, settings)
    sources = Sources(
        train=train,
        val=val,
        data=absolute_place(request.data) or BUILT_IN,
        recipe=recipe,
        weights=weights.path if weights else None,
        weights_name=weights.given if weights and is_name(weights.given) else "",
        net_a=net_a.path if net_a else None,
        freeze=request.freeze_features,
        images=request.images,
        stated=request.stated,
        exif=request.exif,
        boxes=images.boxes,
        box_coordinates=images.box_coordinates,
    )
    return config, sources


def _config(recipe: str, request: TrainRequest, weights: Located | None) -> TrainConfig:
    """Make the config of a recipe and the options."""
    if request.localises and weights:
        options = options_of_localiser(request.recipe, weights.path, request.stated)
        config = make_config(f"{recipe}-localise", options.recipe)
        return replace(config, arch=options.arch)
    config = make_config(recipe, _options_of_recipe(request))
    return config if request.chain else replace(config, arch=request.arch)


def _options_of_recipe(request: TrainRequest) -> RecipeOptions:
    """The recipe's options; where a chain's stages have their own S, S goes with the crop."""
    options = request.recipe
    first_s = CHAINS[request.chain][0].s if request.chain else ""
    if first_s and options.crop:
        return replace(options, side=side_of(first_s, options.crop))
    return options


def _explain_built_in_images(recipe: str, localises: bool) -> None:
    learner = "a thin net learns" if recipe == "small" else "training on"
    if localises:
        learner = "a localiser learns the objects of"
    log(
        f"No --data: {learner} {BUILT_IN} by the {recipe} recipe; "
        "with --data FOLDER the paper's recipe is used."
    )


def _locate(given: Path | str | None, job: Job) -> Located | None:
    """Find a file to start from; the main process downloads what is named and not here yet."""
    if given is None:
        return None
    found = job.main_first(locate, given)
    if found.line:
        log(found.line)
    return found


def _find(folder: str) -> tuple[Path, bool]:
    """The folder that is meant, and whether it is a chain's.

    Args:
        folder: Its name, or "newest".

    Raises:
        InputError: If there is no newest one.
    """
    if folder != NEWEST:
        return Path(folder), (Path(folder) / CHAIN_FILE).is_file()
    newest_run(RUNS, holding="config.json")  # refuses where there is none
    files = [*newest_first(RUNS, "config.json"), *newest_first(RUNS, "last.pt")]
    path = max(files, key=lambda file: file.stat().st_mtime).parent
    if (path.parent / CHAIN_FILE).is_file():
        path = path.parent
    return path, (path / CHAIN_FILE).is_file()
