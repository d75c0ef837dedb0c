"""What a command asks for, sent where it is done."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from train.chain import Chain, resume_chain, train_chain
from train.feed.frozen_features import refuse_unless_given
from train.one_net import BUILT_IN, open_sets, recipe_for, resume_run, train_one
from train.recipe.stages import CHAIN_FILE, CHAINS, FineTune, side_of
from train.session import RunSettings, Sources, say
from vgg_deploy.errors import InputError
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.newest import RUNS, newest_first, newest_run


class TrainRequest(NamedTuple):
    """The options, as their help tells."""

    arch: str
    chain: str | None
    stage: str | None
    plan_only: bool
    data: str | None
    out: Path | None
    weights: Path | None
    net_a: Path | None
    freeze: bool
    images: int | None
    fine_tune: FineTune
    options: dict  # fields of TrainConfig that were given
    picture: Path | None
    stated: StatedInput  # of the input of `weights`


def train(request: TrainRequest, settings: RunSettings) -> None:
    """Train one net or a chain, or draw what its training would see."""
    if request.freeze:
        refuse_unless_given(request.weights)
    recipe, base = settings.job.on_all(
        lambda: recipe_for(request.data, request.weights, _with_side(request))
    )
    train, val = open_sets(request.data, request.images, settings.on_error, settings.job)
    data = _whole_path(request.data) or BUILT_IN
    sources = Sources(
        train,
        val,
        data,
        recipe,
        request.weights,
        request.net_a,
        request.freeze,
        request.images,
        request.stated,
    )
    if request.picture:
        draw(base, sources, settings, request.picture)
    elif request.chain:
        chain = Chain(request.chain, request.arch, base, request.fine_tune)
        train_chain(chain, sources, request.out, request.stage, request.plan_only, settings)
    else:
        train_one(
            replace(base, arch=request.arch),
            sources,
            request.out,
            settings,
            request.options["init"],
        )


def _with_side(request: TrainRequest) -> dict:
    """The recipe's options, with the S that goes with the crop where a chain's stages have an S of their own."""
    first, crop = CHAINS[request.chain][0].s if request.chain else "", request.options["crop"]
    return {**request.options, "side": side_of(first, crop)} if first and crop else request.options


def _whole_path(data: str | None) -> str | None:
    """A folder's absolute path; a URL as it is."""
    return str(Path(data).resolve()) if data and "://" not in data else data


def go_on(named: str, plan_only: bool, data: str | None, settings: RunSettings) -> None:
    """Resume a run or a chain.

    Args: named, its folder, or "newest"; plan_only, show what is left of a chain; data, where its
        images are now.
    """
    folder, is_chain = settings.job.on_main(_begun, named)
    if is_chain:
        resume_chain(folder, plan_only, _whole_path(data), settings)
    elif plan_only:
        raise InputError(f"{folder}: is a run of one net, and --plan shows what is left of a chain")
    else:
        resume_run(folder, settings, _whole_path(data))


def _begun(named: str) -> tuple[Path, bool]:
    """The folder that is meant, and whether it is a chain's."""
    if named != "newest":
        return Path(named), (Path(named) / CHAIN_FILE).is_file()
    newest_run(RUNS, holding="config.json")
    folder = max(
        (*newest_first(RUNS, "config.json"), *newest_first(RUNS, "last.pt")),
        key=lambda path: path.stat().st_mtime,
    ).parent
    if (folder.parent / CHAIN_FILE).is_file():
        folder = folder.parent
    return folder, (folder / CHAIN_FILE).is_file()


def draw(config, sources: Sources, settings: RunSettings, picture: Path) -> None:
    """Some images beside random views of them."""
    from train.feed.colour_statistics import measure_colours
    from train.feed.views import Views
    from train.feed.unreadable import refuse_unreadable
    from train.feed.view_sheet import draw_views
    from vgg_deploy.net.spec import Preprocessing

    colours = measure_colours(sources.train, settings.threads)
    if settings.on_error == "stop":
        refuse_unreadable(colours)
    draw_views(
        Views(sources.train, config, Preprocessing(), colours.components()),
        6,
        picture,
        settings.on_error,
    )
    say(f"Views of training images, as a net gets them: {picture}")
