"""Chooses the rows of the accuracy table by the names that a user gives."""

from bench.accuracy.protocols import Row, Sides, rows_of
from bench.models.model import Model
from vgg_deploy.errors import InputError
from vgg_deploy.images.protocols import PROTOCOLS
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.predict.whole_images import scores_protocol
from vgg_deploy.runtimes.graph_interface import interface_of


def select_rows(
    models: list[Model],
    protocols: str | None,
    sides: Sides | None,
    flips: bool,
    fuse: tuple[str, ...],
) -> list[Row]:
    """Every protocol of every model, then of every fusion.

    Args:
        models: The models of the run.
        protocols: Names joined by commas; None for "dense".
        sides: Q in pixels; None takes them from each net's S.
        flips: Whether rows with mirror images are asked for.
        fuse: Fusions, each the names of models joined by commas, or "all".

    Raises:
        InputError: For unknown names, and for a fusion of fewer than two models.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in (protocols or "dense").split(",")))
    unknown = [name for name in chosen if name not in PROTOCOLS]
    if unknown:
        guess = did_you_mean(unknown[0], PROTOCOLS)
        raise InputError(
            f"--protocols: {unknown[0]!r} is unknown; choose from {', '.join(PROTOCOLS)}{guess}"
        )
    groups = [(index,) for index in range(len(models))]
    fusions = [_members_of(fusion, models) for fusion in fuse]
    specs = [model.runtime.spec for model in models]
    rows = []
    for members in [*groups, *fusions]:
        of_members = rows_of(members, specs, chosen, sides, flips)
        possible = [row for row in of_members if all(_can(models[m], m, row) for m in members)]
        if not possible:
            refused = next(m for m in members if not all(_can(models[m], m, r) for r in of_members))
            raise _impossible(models[refused])
        rows += possible
    return rows


def _can(model: Model, index: int, row: Row) -> bool:
    """Whether a model can be tested as a row says."""
    side = interface_of(model.runtime).side
    own_sides = all(member.sides == (side,) for member in row.members if member.model == index)
    return (side is None or own_sides) and scores_protocol(model.runtime, row.protocol)


def _impossible(model: Model) -> InputError:
    """The error for a model that none of the rows fits."""
    interface, crop = interface_of(model.runtime), model.runtime.spec.crop
    if interface.side is not None:
        return InputError(
            f"{model.name}: rescales whole images to Q {interface.side} by itself and scores "
            f"{interface.view}; add --scales {interface.side} --protocols {interface.view}"
        )
    shape = interface.text()
    if interface.shape is not None and interface.shape[1:] == (crop, crop):
        return InputError(
            f"{model.name}: takes {shape} only, so no whole images; add --protocols centre"
        )
    return InputError(
        f"{model.name}: takes {shape} only, so no crops of {crop} pixels; add --protocols dense"
    )


def _members_of(fusion: str, models: list[Model]) -> tuple[int, ...]:
    """Indices of the models that a fusion names."""
    index_of = {model.name: index for index, model in enumerate(models)}
    named = list(index_of) if fusion == "all" else fusion.split(",")
    names = [name.strip() for name in named]
    unknown = [name for name in names if name not in index_of]
    if unknown:
        raise InputError(f"--fuse: no model {unknown[0]!r}; the models are {', '.join(index_of)}")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InputError(f"--fuse {fusion}: name at least two models, each once")
    return tuple(index_of[name] for name in names)
