"""The rows that a command line asks for."""

from bench.accuracy.protocols import PROTOCOLS, Row, rows_of
from bench.models.model import Model
from vgg_deploy.errors import InputError


def select_rows(
    models: list[Model],
    protocols: str | None,
    sides: tuple[int, ...] | None,
    flips: bool,
    fuse: tuple[str, ...],
) -> list[Row]:
    """Every protocol of every model, then of every fusion.

    Args: protocols, names joined by commas; fuse, each names of models joined by commas, or "all".
    Raises: InputError for names that are not there.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in (protocols or "dense").split(",")))
    unknown = [name for name in chosen if name not in PROTOCOLS]
    if unknown:
        raise InputError(
            f"--protocols: {unknown[0]!r} is unknown; choose from {', '.join(PROTOCOLS)}"
        )
    groups = [(m,) for m in range(len(models))] + [_fused(named, models) for named in fuse]
    specs = [model.runtime.spec for model in models]
    return [row for members in groups for row in rows_of(members, specs, chosen, sides, flips)]


def _fused(named: str, models: list[Model]) -> tuple[int, ...]:
    place = {model.name: m for m, model in enumerate(models)}
    names = list(place) if named == "all" else [name.strip() for name in named.split(",")]
    unknown = [name for name in names if name not in place]
    if unknown:
        raise InputError(f"--fuse: no model {unknown[0]!r}; the models are {', '.join(place)}")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InputError(f"--fuse {named}: name at least two models, each once")
    return tuple(place[name] for name in names)
