"""A chain of stages: planned, shown, run one after another, gone on with where it was cut off."""

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from train.estimate import Speed, measure_speed
from train.feed.epoch_order import steps_per_epoch
from train.one_net import sources_of
from train.recipe.config import TrainConfig
from train.recipe.stages import (
    CHAIN_FILE,
    INIT_OF,
    PAPER_CROP,
    FineTune,
    Stage,
    config_of,
    continues_training,
    stage_named,
    stages_of,
)
from train.record.contents import compare_contents, keep_contents
from train.record.curves import draw_curves
from train.record.run_folder import Run
from train.session import RunSettings, Sources, check_share, say, train_net
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.newest import RUNS
from vgg_deploy.progress import clock, results


@dataclass(frozen=True)
class Chain:
    """Everything a chain depends on but the files."""

    chain: str  # a key of CHAINS
    arch: str  # whose stages, with those they start from; or "all"
    base: TrainConfig
    fine_tune: FineTune

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_of(self.chain, self.arch)

    def config(self, stage: Stage) -> TrainConfig:
        return config_of(
            stage, replace(self.base, init=INIT_OF.get(self.chain, self.base.init)), self.fine_tune
        )


def train_chain(
    chain: Chain,
    sources: Sources,
    out: Path | None,
    only: str | None,
    plan_only: bool,
    settings: RunSettings,
    moved: bool = False,
) -> None:
    """Run what is not done yet of the chain in `out`, by default runs/<chain>; or of it the one stage `only`.

    Args: moved, whether the images may be in another place than the chain was started with.
    Raises: InputError if the folder holds another chain or one of other images, or a stage's start
        is not trained yet.
    """
    folder = out or RUNS / chain.chain
    chosen = settings.job.on_main(_chosen, chain, only)
    check_share(chain.base, sources, settings.job)
    settings.job.on_main(lambda: _same_or_new(folder, chain, only, sources, not plan_only, moved))
    speed = measure_speed(chain.base, sources, settings)
    settings.job.on_main(_show, chain, chosen, folder, sources, speed)
    if plan_only:
        return
    for stage in chosen:
        run, config = Run(folder / stage.name), chain.config(stage)
        state = settings.job.on_main(_state, run, config)
        if state == "done":
            continue
        say(f"\nStage {stage.name}: net {config.arch}, {config.s}, {state}")
        begun = settings.job.on_main(lambda run=run: run.exists)
        train_net(
            config,
            _start(stage, chain, folder, sources, settings),
            settings,
            run.folder,
            resume=begun,
        )
    say(f"The chain's nets are in {folder}")
    settings.job.on_main(lambda: say(f"The chain's curves: {draw_curves(folder)}"))


def resume_chain(
    folder: Path, plan_only: bool, moved_to: str | None, settings: RunSettings
) -> None:
    """Resume a chain by what its chain.json says: all of its stages, or the one that was asked for.

    Args: moved_to, where its images are now.
    """
    chain, only, begun = settings.job.on_main(lambda: _begun_with(folder / CHAIN_FILE))
    sources = sources_of(begun, settings, moved_to)
    train_chain(chain, sources, folder, only, plan_only, settings, moved_to is not None)


def _begun_with(path: Path) -> tuple[Chain, str | None, dict]:
    """Chain, its one stage, and the sources that `_same_or_new` wrote."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        fields = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in held["config"].items()
        }
        return (
            Chain(
                held["chain"], held["arch"], TrainConfig(**fields), FineTune(**held["fine_tune"])
            ),
            held["stage"],
            dict(held["sources"]),
        )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: damaged ({error!r}); give the options again, they write it anew once it is removed"
        ) from None


def _chosen(chain: Chain, only: str | None) -> tuple[Stage, ...]:
    return (stage_named(chain.chain, only),) if only else chain.stages


def _same_or_new(
    folder: Path, chain: Chain, only: str | None, sources: Sources, write: bool, moved: bool
) -> None:
    """Note what the folder is of; refuse another recipe or other images in it."""
    wanted = {
        "chain": chain.chain, "arch": chain.arch, "stage": only, "config": dataclasses.asdict(chain.base), "fine_tune": chain.fine_tune._asdict(),
        "sources": sources.as_json(), "stages": [{"name": s.name, "arch": s.arch, "start": s.start} for s in stages_of(chain.chain, "all")],
    }  # fmt: skip
    wanted = json.loads(json.dumps(wanted))
    path = folder / CHAIN_FILE
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        held = None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); remove it to begin a chain here"
        ) from None
    if held and moved and isinstance(held.get("sources"), dict):
        held["sources"]["data"] = wanted["sources"]["data"]
    if held:
        other = [
            name for name in ("chain", "sources", "fine_tune") if held.get(name) != wanted[name]
        ]
        other += [
            name
            for name, value in wanted["config"].items()
            if name != "arch" and held.get("config", {}).get(name) != value
        ]
        if other:
            raise InputError(
                f"{folder}: holds a chain begun with other options ({', '.join(other)}); give the same ones, or another --out"
            )
    way_out = "Restore them, or start another chain with another --out"
    listed = bool(held) and compare_contents(folder, sources.train, sources.val, way_out)
    if held and not listed:
        say(
            f"Warning: {folder} has no list of its images, so changes of the data since its start "
            "go unnoticed"
        )
    if write:
        if not listed:
            keep_contents(folder, sources.train, sources.val)
        write_text(path, json.dumps(wanted, indent=2) + "\n")


def _start(
    stage: Stage, chain: Chain, folder: Path, sources: Sources, settings: RunSettings
) -> Sources:
    """The trained net a stage begins with.

    Raises: InputError if that is not there, or not trained to its end.
    """
    if not stage.start:
        return sources
    run, config = Run(folder / stage.start), chain.config(stage_named(chain.chain, stage.start))

    def check() -> None:
        state = _state(run, config)
        if state != "done" or not run.best.is_file():
            raise InputError(
                f"stage {stage.name} starts from {stage.start}, not trained to its end ({state}); train that first: --stage {stage.start}"
            )

    settings.job.on_main(check)
    best = run.best
    return (
        replace(sources, weights=best)
        if continues_training(stage)
        else replace(sources, net_a=best)
    )


def _state(run: Run, config: TrainConfig) -> str:
    """How far a stage has come."""
    done = run.epochs_done()
    if done >= config.epochs:
        return "done"
    return f"{done} of {config.epochs} epochs done" if run.exists else "to do"


def _show(
    chain: Chain, stages: tuple[Stage, ...], folder: Path, sources: Sources, speed: Speed
) -> None:
    """The plan as a table."""
    table = Table(
        title=f"The chain {chain.chain!r} in {folder}: {len(sources.train)} training images, batch {chain.base.batch}",
        title_justify="left",
    )
    for column in ("stage", "starts from", "S", "LR", "epochs", "updates", "about", "state"):
        table.add_column(
            column, justify="right" if column in ("LR", "epochs", "updates", "about") else "left"
        )
    left = 0.0
    for stage in stages:
        config = chain.config(stage)
        state = _state(Run(folder / stage.name), config)
        to_do = config.epochs - min(Run(folder / stage.name).epochs_done(), config.epochs)
        seconds = speed.seconds_an_epoch(config, sources)
        left += to_do * seconds
        updates = config.epochs * steps_per_epoch(len(sources.train), config.batch)
        s = config.s.removeprefix("S=").removeprefix("S in ")
        start = stage.start or f"{config.init} draw"
        table.add_row(
            stage.name,
            start,
            s,
            f"{config.lr:g}",
            str(config.epochs),
            f"{updates:,}",
            clock(config.epochs * seconds),
            state,
        )
    results().print(table)
    if chain.base.crop != PAPER_CROP and any(stage.s for stage in stages):
        say(
            f"Stages bear the S of the paper's crop of {PAPER_CROP}; for the crop of {chain.base.crop} it is taken in proportion"
        )
    say(f"About {clock(left)} to go, judged by a few timed updates of net A")
