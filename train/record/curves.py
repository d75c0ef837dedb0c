"""Pictures of how training went: loss, errors and learning rate against updates."""

import math
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from train.record.history import History, read_epochs, read_histories
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file

# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
TRAINING, TOP1, TOP5 = COLOURS[0], COLOURS[1], COLOURS[2]
RUNNING = "#a6cee3"  # of training, too, but paler
INK, FAINT = "#333333", "#9a9a9a"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8, "lines.linewidth": 1.6, "lines.solid_capstyle": "round", "xtick.major.size": 3, "ytick.major.size": 0,
}  # fmt: skip
X_LABELS = {"step": "updates", "epoch": "epochs"}
HALO = [withStroke(linewidth=2, foreground="white")]  # keeps a word readable on curves
FEW_EPOCHS = 40  # up to so many in a picture each one gets a mark
FEW_RATES = 6  # up to so many each one gets its number


class End(NamedTuple):
    """Of a curve: where it ends and what is written there."""

    y: float
    text: str
    colour: str


def draw_curves(folder: Path) -> Path:
    """Draw curves.png into the folder of a run or a chain, whose stages follow each other on the axis; returns its path.

    Raises: InputError for tables that are missing, damaged or without an epoch, and where the picture cannot be written.
    """
    folder = Path(folder)
    return _write(curves(read_histories(folder), folder.resolve().name), folder / "curves.png")


def compare_curves(labelled: dict[str, list[Path]], path: Path, x: str = "step") -> Path:
    """Draw the validation top-1 errors of some runs' folders, those that differ in their seed alone under one label.

    Args: x, a key of X_LABELS. Raises: InputError as `draw_curves`, and if runs of one label have different epochs.
    """
    return _write(comparison(labelled, x), Path(path))


@mpl.rc_context(STYLE)
def curves(histories: list[History], title: str) -> Figure:
    """Three axes over one of updates: loss, errors, learning rate. A chain's stages are set apart by lines and named."""
    figure = Figure(figsize=(10, 8.4), layout="constrained")
    loss, error, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 4, 1.6))
    begin, marks = 0, _marks(sum(len(history.epochs) for history in histories))
    for history in histories:
        _draw_loss(loss, history, begin)
        _draw_errors(error, history, begin, marks)
        _draw_rate(rate, history, begin)
        begin += history.updates
    _name_stages(loss, (loss, error, rate), histories)
    last, running = histories[-1].epochs.iloc[-1], histories[-1].steps.iloc[-1:].train_loss
    equal = _equal_scores(loss, {history.classes for history in histories})
    for axes, name in ((loss, "training loss, nats"), (error, "error, %")):
        axes.set(ylabel=name, ylim=(0, axes.get_ylim()[1]))
    means = End(last.train_loss, f"epoch means  {last.train_loss:.2f}", TRAINING)
    _label_ends(loss, begin, 14, [means, *(End(y, "running", RUNNING) for y in running), *equal])
    _label_ends(error, begin, 20, [
        End(last.train_top1_error_pct, f"training top-1  {last.train_top1_error_pct:.1f}", TRAINING),
        End(last.val_top1_error_pct, f"validation top-1  {last.val_top1_error_pct:.1f}", TOP1),
        End(last.val_top5_error_pct, f"validation top-5  {last.val_top5_error_pct:.1f}", TOP5),
    ])  # fmt: skip
    rate.set(ylabel="learning rate", xlabel=X_LABELS["step"], xlim=(0, begin))
    _log_rates(rate, histories)
    rate.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.align_ylabels()
    figure.suptitle(_title(histories, title), x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


@mpl.rc_context(STYLE)
def comparison(labelled: dict[str, list[Path]], x: str) -> Figure:
    """A line a label, the mean over its runs, in a band from the lowest to the highest."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes, ends, right = figure.subplots(), [], 0.0
    for i, (label, folders) in enumerate(labelled.items()):
        runs, colour = [read_epochs(Path(folder)) for folder in folders], COLOURS[i % len(COLOURS)]
        at = runs[0][x].to_numpy()
        for folder, run in zip(folders, runs, strict=True):
            if not np.array_equal(run[x], at):
                raise InputError(
                    f"{folder}: its epochs end at other {X_LABELS[x]} than those of {folders[0]}; compare runs of one length under {label!r}"
                )
        errors = np.stack([run.val_top1_error_pct for run in runs])
        axes.fill_between(at, errors.min(0), errors.max(0), color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, errors.mean(0), color=colour, label=label, **_marks(len(at)))
        seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
        ends.append(End(errors.mean(0)[-1], f"{label}{seeds}  {errors.mean(0)[-1]:.1f}", colour))
        right = max(right, at[-1])
    axes.set(
        xlabel=X_LABELS[x],
        ylabel="validation top-1 error, %",
        xlim=(0, right),
        ylim=(0, axes.get_ylim()[1]),
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _label_ends(axes, right, 30, ends)
    return figure


def _draw_loss(axes: Axes, history: History, begin: int) -> None:
    """The means of some updates, and of the epochs as level lines over all of their updates."""
    steps, epochs = history.steps, history.epochs
    axes.plot(
        begin + steps.step, steps.train_loss, color=RUNNING, linewidth=0.9, label="running loss"
    )
    axes.plot(
        *_levels(epochs.step, epochs.train_loss, begin), color=TRAINING, label="loss of epochs"
    )


def _draw_errors(axes: Axes, history: History, begin: int, marks: dict) -> None:
    steps, epochs, best = history.steps, history.epochs, history.best
    axes.plot(
        begin + steps.step,
        steps.train_top1_error_pct,
        color=RUNNING,
        linewidth=0.9,
        label="running training top-1",
    )
    axes.plot(
        *_levels(epochs.step, epochs.train_top1_error_pct, begin),
        color=TRAINING,
        label="training top-1",
    )
    for name, column, colour in (
        ("top-1", epochs.val_top1_error_pct, TOP1),
        ("top-5", epochs.val_top5_error_pct, TOP5),
    ):
        axes.plot(begin + epochs.step, column, color=colour, label=f"validation {name}", **marks)
    at = (begin + best.step, best.val_top1_error_pct)
    axes.plot(
        *at,
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=TOP1,
        markeredgewidth=1.4,
        clip_on=False,
        label="best",
    )
    axes.annotate(
        f"best\n{at[1]:.1f}",
        at,
        (0, -7),
        textcoords="offset points",
        color=TOP1,
        ha="center",
        va="top",
        fontsize=7.5,
        path_effects=HALO,
    )


def _draw_rate(axes: Axes, history: History, begin: int) -> None:
    axes.plot(
        *_levels(history.steps.step, history.steps.lr, begin), color=INK, label="learning rate"
    )


def _levels(steps, values, begin: int) -> tuple[np.ndarray, np.ndarray]:
    """Level lines: each value from where the one before ended to its own step."""
    edges = begin + np.concatenate([[0], steps])
    return np.repeat(edges, 2)[1:-1], np.repeat(np.asarray(values), 2)


def _marks(epochs: int) -> dict:
    return {"marker": "o", "markersize": 3.5} if epochs <= FEW_EPOCHS else {}


def _name_stages(top: Axes, all_axes: tuple[Axes, ...], histories: list[History]) -> None:
    """A line where each stage begins, and above the first axes its name and S; upright where stages are many."""
    if len(histories) == 1:
        return
    total, begin = sum(history.updates for history in histories), 0
    upright = min(history.updates for history in histories) / total < 0.1
    for history in histories:
        for axes in all_axes if begin else ():
            axes.axvline(
                begin,
                color=FAINT,
                linewidth=0.8,
                linestyle=(0, (4, 3)),
                label=f"begin of {history.name}",
            )
        top.text(
            begin + history.updates / 2, 1.03, f"{history.name}{', ' if upright else chr(10)}{history.config.s}", ha="center", va="bottom",
            rotation=90 if upright else 0, transform=blended_transform_factory(top.transData, top.transAxes), fontsize=8,
        )  # fmt: skip
        begin += history.updates


def _label_ends(axes: Axes, right: float, lines: int, ends: list[End]) -> None:
    """Name curves at their right ends. Args: right, where that is; lines, how many of text fit into the height of the axes."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    for end, y in zip(ends, apart([end.y for end in ends], (high - low) / lines), strict=True):
        axes.annotate(
            end.text,
            (right, y),
            (10, 0),
            textcoords="offset points",
            color=end.colour,
            va="center",
            annotation_clip=False,
        )


def apart(places: list[float], least: float) -> list[float]:
    """Rising places, moved so that neighbours are `least` apart or more; those that were too close are spread about their mean."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while (
            len(groups) > 1
            and _spread(groups[-1], least)[0] < _spread(groups[-2], least)[-1] + least
        ):
            late = groups.pop()
            groups[-1] += late
    return [place for group in groups for place in _spread(group, least)]


def _spread(group: list[float], least: float) -> list[float]:
    first = sum(group) / len(group) - least * (len(group) - 1) / 2
    return [first + least * i for i in range(len(group))]


def _equal_scores(axes: Axes, classes: set[int | None]) -> list[End]:
    """The loss of a net that scores all classes alike: where training begins, and stays if it learns nothing."""
    if len(classes) > 1 or None in classes:
        return []
    (count,) = classes
    axes.axhline(
        math.log(count), color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)), label="equal scores"
    )
    return [End(math.log(count), f"equal scores, ln {count:,}", FAINT)]


def _log_rates(axes: Axes, histories: list[History]) -> None:
    """A logarithmic axis that names the rates there were."""
    rates = sorted(
        {
            float(f"{rate:.6g}")
            for history in histories
            for rate in (*history.epochs.lr, *history.steps.lr)
        }
    )
    axes.set_yscale("log")
    axes.set_ylim(rates[0] / 2, rates[-1] * 2)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    if len(rates) <= FEW_RATES:
        axes.set_yticks(rates, [f"{rate:g}" for rate in rates])


def _title(histories: list[History], name: str) -> str:
    first = histories[0].config
    what = f"net {first.arch}, {first.s}" if len(histories) == 1 else f"{len(histories)} stages"
    return f"{name}: {what}, batch {first.batch}"


def _write(figure: Figure, path: Path) -> Path:
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")
    return path
