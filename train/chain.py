"""Trains the stages of a chain in order: skips finished ones and resumes interrupted ones."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from train.estimate import Speed, measure_speed
from train.feed.epoch_order import steps_per_epoch
from train.options.moved import Moved
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.recipe.number_ranges import RECIPE_LIMITS
from train.recipe.stages import (
    CHAIN_FILE,
    CHAINS,
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
from train.record.log import log
from train.record.report_curves import curves_line
from train.record.run_folder import Run
from train.session import check_share, train_net
from train.sources import Sources, current_name, sources_from_json
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import JsonObject, as_object
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.newest import RUNS
from vgg_deploy.progress import clock
from vgg_deploy.sealed_json import read_sealed, sealed
from vgg_deploy.terminal_tables import Column, print_table

PLAN_HEADS = ("stage", "starts from", "S", "LR", "epochs", "updates", "about", "state")
DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
DONE = "done"  # the state of a stage that needs no more epochs
REWRITE = "remove it and give the options again, which writes it"  # a damaged chain.json


@dataclass(frozen=True)
class Chain:
    """Everything a chain depends on except its files.

    Attributes:
        chain: A key of `CHAINS`.
        arch: The net to train; its stages come with those that they start from. Or "all".
        base: The recipe that the stages change.
        fine_tune: Of stages that train the same net further.
    """

    chain: str
    arch: str
    base: TrainConfig
    fine_tune: FineTune

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In running order."""
        return stages_of(self.chain, self.arch)

    def chosen(self, stage: str | None) -> tuple[Stage, ...]:
        """The one stage of this name; all of them if None.

        Raises:
            InputError: If there is no such stage.
        """
        return (stage_named(self.chain, stage),) if stage else self.stages

    def config(self, stage: Stage) -> TrainConfig:
        """The recipe of a stage."""
        init = INIT_OF.get(self.chain, self.base.init)
        return config_of(stage, replace(self.base, init=init), self.fine_tune)


class SavedChain(NamedTuple):
    """What chain.json holds.

    Attributes:
        chain: The chain.
        stage: Its only stage to train; None for all.
        sources: What `Sources.as_json` gave.
    """

    chain: Chain
    stage: str | None
    sources: JsonObject

    def open_sources(self, settings: RunSettings, moved_to: str | None) -> Sources:
        """Open the chain's files.

        Args:
            settings: Of this process.
            moved_to: Where the images are now; None if they are where they were.

        Raises:
            InputError: If the data cannot be opened.
        """
        return sources_from_json(self.sources, settings, Moved(moved_to))


def train_chain(
    chain: Chain,
    sources: Sources,
    out: Path | None,
    stage: str | None,
    settings: RunSettings,
    moved: bool = False,
) -> None:
    """Train the stages of a chain that are not done.

    Args:
        chain: The chain.
        sources: Its images.
        out: Its folder, by default runs/<chain>.
        stage: The only stage to train; None for all.
        settings: Of this process.
        moved: Whether the images may be elsewhere than when the chain was started.

    Raises:
        InputError: If the folder holds another chain or one of other images, or if the source of a
            stage is not trained.
        Interrupted: After a signal; the work is saved.
    """
    job, folder = settings.job, out or RUNS / chain.chain
    chosen = job.on_main(chain.chosen, stage)
    job.on_main(check_share, chain.base, sources, job)
    job.on_main(_claim_folder, folder, chain, stage, sources, moved)
    speed = measure_speed(chain.base, sources, settings)
    job.on_main(_show_plan, chain, chosen, folder, sources, speed)
    for each in chosen:
        _train_stage(each, chain, folder, sources, settings)
    log(f"The chain's nets are in {folder}")
    job.on_main(_draw_curves, folder)


def plan_chain(
    chain: Chain,
    sources: Sources,
    out: Path | None,
    stage: str | None,
    settings: RunSettings,
    moved: bool = False,
) -> None:
    """Show the stages of a chain, what is done and the time the rest takes; train nothing.

    Args:
        chain: As in `train_chain`, likewise the others.
        sources: Its images.
        out: Its folder.
        stage: The only stage to show; None for all.
        settings: Of this process.
        moved: Whether the images may be elsewhere.

    Raises:
        InputError: If the folder holds another chain or one of other images.
    """
    job, folder = settings.job, out or RUNS / chain.chain
    chosen = job.on_main(chain.chosen, stage)
    job.on_main(check_share, chain.base, sources, job)
    job.on_main(_compare_folder, folder, chain, stage, sources, moved)
    speed = measure_speed(chain.base, sources, settings)
    job.on_main(_show_plan, chain, chosen, folder, sources, speed)


def resume_chain(folder: Path, moved_to: str | None, settings: RunSettings) -> None:
    """Resume a chain: the stages that its chain.json names.

    Args:
        folder: Of the chain.
        moved_to: Where its images are now; None if they are where they were.
        settings: Of this process.

    Raises:
        InputError: As `train_chain`.
        Interrupted: As `train_chain`.
    """
    saved = settings.job.on_main(saved_chain, folder)
    sources = saved.open_sources(settings, moved_to)
    chain = saved.chain
    if settings.micro_batch is not None:
        chain = replace(chain, base=replace(chain.base, micro_batch=settings.micro_batch))
    train_chain(chain, sources, folder, saved.stage, settings, moved=moved_to is not None)


def saved_chain(folder: Path) -> SavedChain:
    """Read chain.json.

    Raises:
        InputError: If it is missing or damaged.
    """
    path = folder / CHAIN_FILE
    saved: dict[str, Any] = read_sealed(path, REWRITE)
    try:
        config, fine_tune = (
            as_object(saved[key], f"{path}: {key}", REWRITE) for key in ("config", "fine_tune")
        )
        stage = saved["stage"]
        if saved["chain"] not in CHAINS or not isinstance(stage, str | None):
            raise ValueError(f"chain {saved['chain']!r:.40}, stage {stage!r:.40}")
        if saved["arch"] not in ("all", *ARCHS):
            raise ValueError(f"arch {saved['arch']!r:.40}")
        chain = Chain(
            saved["chain"],
            saved["arch"],
            TrainConfig.from_json(config),
            _fine_tune(fine_tune),
        )
        return SavedChain(chain, stage, as_object(saved["sources"], str(path), REWRITE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); {REWRITE}") from None


def _fine_tune(fields: JsonObject) -> FineTune:
    """Check the settings of chain.json's stages that train further.

    Raises:
        TypeError: For an unknown field.
        ValueError: For a value out of the range of the recipe's own field.
    """
    fine_tune = FineTune(**cast(dict[str, Any], fields))
    for name, value in fine_tune._asdict().items():
        fault = None if value is None else RECIPE_LIMITS[name].fault(value)
        if fault:
            raise ValueError(f"fine_tune: {name} {fault}")
    return fine_tune


def _as_json(chain: Chain, stage: str | None, sources: Sources) -> JsonObject:
    """What chain.json holds, as JSON returns it: with lists for tuples."""
    stages = stages_of(chain.chain, "all")
    content = {
        "chain": chain.chain,
        "arch": chain.arch,
        "stage": stage,
        "config": dataclasses.asdict(chain.base),
        "fine_tune": chain.fine_tune._asdict(),
        "sources": sources.as_json(),
        "stages": [{"name": s.name, "arch": s.arch, "start": s.source} for s in stages],
    }
    return as_object(json.loads(json.dumps(content)), CHAIN_FILE)


def _claim_folder(
    folder: Path, chain: Chain, stage: str | None, sources: Sources, moved: bool
) -> None:
    """Write what a folder is used for: chain.json and the lists of images.

    Raises:
        InputError: If it holds another recipe or other images.
    """
    listed = _compare_folder(folder, chain, stage, sources, moved)
    if not listed:
        keep_contents(folder, sources.train, sources.val)
    content = _as_json(chain, stage, sources)
    write_text(folder / CHAIN_FILE, json.dumps(sealed(content), indent=2) + "\n")


def _compare_folder(
    folder: Path, chain: Chain, stage: str | None, sources: Sources, moved: bool
) -> bool:
    """Compare a chain with the one in its folder, if there is one.

    Returns:
        Whether the folder has a list of the images.

    Raises:
        InputError: If the folder holds another recipe or other images.
    """
    path = folder / CHAIN_FILE
    if not path.exists():
        return False
    saved = read_sealed(path, "remove it to start a chain here")
    different = _differences(saved, _as_json(chain, stage, sources), moved)
    if different:
        raise InputError(
            f"{folder}: holds a chain started with other options ({', '.join(different)}); "
            "give the same ones, or another --out"
        )
    advice = "Restore them, or start another chain with another --out"
    listed = compare_contents(folder, sources.train, sources.val, advice)
    if not listed:
        log(
            f"Warning: {folder} has no list of its images, so changes of the data since its start "
            "go unnoticed"
        )
    return listed


def _differences(saved: JsonObject, chain: Mapping[str, Any], moved: bool) -> list[str]:
    """The names of settings that differ between chain.json and a chain.

    Args:
        saved: Content of chain.json.
        chain: What `_as_json` gives.
        moved: Whether the images may be elsewhere.
    """
    sources = saved.get("sources")
    if isinstance(sources, dict):
        data = chain["sources"]["data"] if moved else current_name(sources.get("data", ""))
        saved = {**saved, "sources": {**sources, "data": data}}
    config = saved.get("config")
    if not isinstance(config, dict):
        config = {}
    groups = [name for name in ("chain", "sources", "fine_tune") if saved.get(name) != chain[name]]
    fields = [
        name
        for name, value in chain["config"].items()
        # a field that an earlier version did not have is at its default
        if name not in ("arch", "micro_batch") and config.get(name, DEFAULTS[name]) != value
    ]
    return groups + fields


def _train_stage(
    stage: Stage, chain: Chain, folder: Path, sources: Sources, settings: RunSettings
) -> None:
    """Train one stage, new or interrupted, unless it is done."""
    job, run, config = settings.job, Run(folder / stage.name), chain.config(stage)
    state = job.on_main(_state, run, config)
    if state == DONE:
        return
    log("")
    log(f"Stage {stage.name}: net {config.arch}, {config.s}, {state}")
    interrupted = job.on_main(_exists, run)
    if stage.source:
        source = stage_named(chain.chain, stage.source)
        best = Run(folder / source.name).best
        job.on_main(_check_source, stage, source, chain, folder)
        if continues_training(stage):
            sources = replace(sources, weights=best)
        else:
            sources = replace(sources, net_a=best)
    train_net(config, sources, settings, run.folder, resume=interrupted)


def _check_source(stage: Stage, source: Stage, chain: Chain, folder: Path) -> None:
    """Check the stage that another one starts from.

    Raises:
        InputError: If it is missing, or not trained to its end.
    """
    run = Run(folder / source.name)
    state = _state(run, chain.config(source))
    if state != DONE or not run.best.is_file():
        raise InputError(
            f"stage {stage.name} starts from {source.name}, not trained to its end ({state}); "
            f"train that first: --stage {source.name}"
        )


def _exists(run: Run) -> bool:
    return run.exists


def _state(run: Run, config: TrainConfig) -> str:
    """How far a stage has come, in words."""
    done = run.epochs_done()
    if done >= config.epochs:
        return DONE
    return f"{done} of {config.epochs} epochs done" if run.exists else "to do"


def _show_plan(
    chain: Chain, stages: tuple[Stage, ...], folder: Path, sources: Sources, speed: Speed
) -> None:
    """Print the stages as a table, and the time the rest takes."""
    images = len(sources.train)
    rows: list[list[str]] = []
    remaining = 0.0  # seconds
    for stage in stages:
        config, run = chain.config(stage), Run(folder / stage.name)
        seconds = speed.seconds_per_epoch(config, sources)
        remaining += (config.epochs - min(run.epochs_done(), config.epochs)) * seconds
        rows.append(
            [
                stage.name,
                stage.source or f"{config.init} draw",
                config.s.removeprefix("S=").removeprefix("S in "),
                f"{config.lr:g}",
                str(config.epochs),
                f"{config.epochs * steps_per_epoch(images, config.batch):,}",
                clock(config.epochs * seconds),
                _state(run, config),
            ]
        )
    title = (
        f"The chain {chain.chain!r} in {folder}: {images} training images, batch {chain.base.batch}"
    )
    columns = [
        Column(head, [row[i] for row in rows], head in ("stage", "starts from", "S", "state"))
        for i, head in enumerate(PLAN_HEADS)
    ]
    spared = [c._replace(spare=1) if c.head in ("updates", "LR") else c for c in columns]
    print_table(title, spared)
    if chain.base.crop != PAPER_CROP and any(stage.s for stage in stages):
        log(
            f"Stages bear the S of the paper's crop of {PAPER_CROP}; for the crop of "
            f"{chain.base.crop} it is taken in proportion"
        )
    log(f"About {clock(remaining)} to go, judged by a few timed updates of net A")


def _draw_curves(folder: Path) -> None:
    log(f"The chain's curves: {curves_line(folder)}")
