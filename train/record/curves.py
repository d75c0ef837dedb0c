"""Draws how training went: loss, errors and learning rate against updates."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from train.record.history import History, read_epochs, read_histories
from train.record.measures import MEASURES
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.regular_files import real_path

# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
TRAINING, TOP1, TOP5 = COLOURS[0], COLOURS[1], COLOURS[2]
RUNNING = "#a6cee3"  # of training too, but paler
INK, FAINT = "#333333", "#9a9a9a"
STYLE: dict[Any, Any] = {  # matplotlib's types name each of its hundreds of keys
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}
X_LABELS = {"step": "updates", "epoch": "epochs"}
HALO = [withStroke(linewidth=2, foreground="white")]  # keeps a word readable on curves
FEW_EPOCHS = 40  # up to this many in a drawing, each one gets a mark
FEW_RATES = 6  # up to this many, each one gets its number


class End(NamedTuple):
    """The label at the right end of a curve.

    Attributes:
        y: Where the curve ends.
        text: What is written there.
        colour: Of the curve.
    """

    y: float
    text: str
    colour: str


def draw_curves(folder: Path) -> Path:
    """Draw curves.png into the folder of a run or a chain.

    A chain's stages follow each other on the axis of updates.

    Returns:
        The path of the image.

    Raises:
        InputError: If tables are missing, damaged or without an epoch, or if the image cannot be
            written.
    """
    folder = Path(folder)
    return _write(curves(read_histories(folder), real_path(folder).name), folder / "curves.png")


def compare_curves(labelled: dict[str, list[Path]], path: Path, x: str = "step") -> Path:
    """Draw the validation top-1 errors of several runs.

    Args:
        labelled: Folders of runs by label; runs under one label differ in their seed alone.
        path: Of the image, a PNG.
        x: A key of `X_LABELS`.

    Returns:
        The path of the image.

    Raises:
        InputError: As `draw_curves`, and if runs under one label have different epochs.
    """
    return _write(comparison(labelled, x), Path(path))


@mpl.rc_context(STYLE)
def curves(histories: list[History], title: str) -> Figure:
    """Draw loss, errors and learning rate on three axes over one of updates.

    Args:
        histories: Of one run, or of a chain's stages, which lines separate and texts name.
        title: Of the figure.
    """
    figure = Figure(figsize=(10, 8.4), layout="constrained")
    loss, error, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 4, 1.6))
    first, marks = 0, _marks(sum(len(history.epochs) for history in histories))
    for history in histories:
        _draw_loss(loss, history, first)
        _draw_errors(error, history, first, marks)
        _draw_rate(rate, history, first)
        first += history.updates
    _name_stages(loss, (loss, error, rate), histories)
    # equal scores are a loss of scores
    classes = {None if h.config.localises else h.classes for h in histories}
    equal = _equal_scores(loss, classes)
    localises = histories[0].config.localises
    units = (
        ("training loss", "error and IoU, %") if localises else ("training loss, nats", "error, %")
    )
    for axes, name in zip((loss, error), units, strict=True):
        axes.set(ylabel=name, ylim=(0, axes.get_ylim()[1]))
    _label_ends(loss, first, 14, [*_loss_ends(histories[-1]), *equal])
    _label_ends(error, first, 20, _error_ends(histories[-1]))
    rate.set(ylabel="learning rate", xlabel=X_LABELS["step"], xlim=(0, first))
    _log_rates(rate, histories)
    rate.xaxis.set_major_formatter(FuncFormatter(_with_thousands))
    figure.align_ylabels()
    figure.suptitle(_title(histories, title), x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


@mpl.rc_context(STYLE)
def comparison(labelled: dict[str, list[Path]], x: str) -> Figure:
    """Draw one line per label: the mean over its runs, in a band from the lowest to the highest.

    Args:
        labelled: As in `compare_curves`.
        x: A key of `X_LABELS`.
    """
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots()
    ends: list[End] = []
    right = 0.0
    for index, (label, folders) in enumerate(labelled.items()):
        colour = COLOURS[index % len(COLOURS)]
        at, errors = _errors_of_runs(label, folders, x)
        mean = errors.mean(0)
        axes.fill_between(at, errors.min(0), errors.max(0), color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, mean, color=colour, label=label, **_marks(len(at)))
        seeds = f", {len(folders)} seeds" if len(folders) > 1 else ""
        ends.append(End(mean[-1], f"{label}{seeds}  {mean[-1]:.1f}", colour))
        right = max(right, at[-1])
    axes.set(
        xlabel=X_LABELS[x],
        ylabel="validation error, %",
        xlim=(0, right),
        ylim=(0, axes.get_ylim()[1]),
    )
    axes.xaxis.set_major_formatter(FuncFormatter(_with_thousands))
    _label_ends(axes, right, 30, ends)
    return figure


def _errors_of_runs(label: str, folders: list[Path], x: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the validation top-1 errors of the runs under one label.

    Returns:
        (epochs,) values of `x`, and (runs, epochs) errors in per cent.

    Raises:
        InputError: If the runs have different epochs.
    """
    runs = [read_epochs(Path(folder)) for folder in folders]
    at = runs[0][x].to_numpy()
    for folder, run in zip(folders, runs, strict=True):
        if not np.array_equal(run[x], at):
            raise InputError(
                f"{folder}: its epochs end at other {X_LABELS[x]} than those of {folders[0]}; "
                f"compare runs of one length under {label!r}"
            )
    return at, np.stack([run[_error_column(run)] for run in runs])


def _error_column(epochs: pd.DataFrame) -> str:
    """The column of the validation error that chooses best.pt."""
    columns = [f"val_{measures.first}" for measures in MEASURES.values()]
    return next(column for column in columns if column in epochs)


def _loss_ends(history: History) -> list[End]:
    last = history.epochs.iloc[-1]
    means = End(last.train_loss, f"epoch means  {last.train_loss:.2f}", TRAINING)
    running = history.steps.iloc[-1:].train_loss  # empty if there are no rows
    return [means, *(End(loss, "running", RUNNING) for loss in running)]


def _error_ends(history: History) -> list[End]:
    last, measures = history.epochs.iloc[-1], history.measures
    first, second = measures.first_words, measures.second_words
    curves = (
        (f"train_{measures.first}", f"training {first}", TRAINING),
        (f"val_{measures.first}", f"validation {first}", TOP1),
        (f"val_{measures.second}", f"validation {second}", TOP5),
    )
    return [
        End(last[column], f"{name}  {last[column]:.1f}", colour) for column, name, colour in curves
    ]


def _draw_loss(axes: Axes, history: History, first: int) -> None:
    """Draw the means of a few updates each, and the means of epochs as level lines.

    Args:
        axes: To draw on.
        history: Of one run.
        first: Updates before the run, where it starts on the axis; likewise below.
    """
    steps, epochs = history.steps, history.epochs
    axes.plot(
        first + steps.step, steps.train_loss, color=RUNNING, linewidth=0.9, label="running loss"
    )
    axes.plot(
        *_levels(epochs.step, epochs.train_loss, first), color=TRAINING, label="loss of epochs"
    )


def _draw_errors(axes: Axes, history: History, first: int, marks: dict[str, Any]) -> None:
    steps, epochs, best, measures = history.steps, history.epochs, history.best, history.measures
    axes.plot(
        first + steps.step,
        steps[f"train_{measures.first}"],
        color=RUNNING,
        linewidth=0.9,
        label=f"running training {measures.first_words}",
    )
    axes.plot(
        *_levels(epochs.step, epochs[f"train_{measures.first}"], first),
        color=TRAINING,
        label=f"training {measures.first_words}",
    )
    for name, column, colour in (
        (measures.first_words, epochs[f"val_{measures.first}"], TOP1),
        (measures.second_words, epochs[f"val_{measures.second}"], TOP5),
    ):
        axes.plot(first + epochs.step, column, color=colour, label=f"validation {name}", **marks)
    at = (first + best.step, best[f"val_{measures.first}"])
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


def _draw_rate(axes: Axes, history: History, first: int) -> None:
    axes.plot(
        *_levels(history.steps.step, history.steps.lr, first), color=INK, label="learning rate"
    )


def _levels(steps: pd.Series, values: pd.Series, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Make level lines: each value from the end of the one before to its own step."""
    edges = first + np.concatenate([[0], steps])
    return np.repeat(edges, 2)[1:-1], np.repeat(np.asarray(values), 2)


def _marks(epochs: int) -> dict[str, Any]:
    """Arguments of `Axes.plot` that mark points if there are few."""
    return {"marker": "o", "markersize": 3.5} if epochs <= FEW_EPOCHS else {}


def _name_stages(top: Axes, all_axes: tuple[Axes, ...], histories: list[History]) -> None:
    """Draw a line where each stage starts, and write its name and S above the first axes.

    If a stage is short on the axis, the texts are turned by 90 degrees.
    """
    if len(histories) == 1:
        return
    total = sum(history.updates for history in histories)
    upright = min(history.updates for history in histories) / total < 0.1
    separator = ", " if upright else "\n"
    over_axes = blended_transform_factory(top.transData, top.transAxes)
    first = 0
    for history in histories:
        if first:
            for axes in all_axes:
                axes.axvline(
                    first,
                    color=FAINT,
                    linewidth=0.8,
                    linestyle=(0, (4, 3)),
                    label=f"start of {history.name}",
                )
        top.text(
            first + history.updates / 2,
            1.03,
            f"{history.name}{separator}{history.config.s}",
            ha="center",
            va="bottom",
            rotation=90 if upright else 0,
            transform=over_axes,
            fontsize=8,
        )
        first += history.updates


def _label_ends(axes: Axes, right: float, lines: int, ends: list[End]) -> None:
    """Name curves at their right ends.

    Args:
        axes: To draw on.
        right: Where the curves end.
        lines: How many lines of text fit into the height of the axes.
        ends: Of the curves.
    """
    low, high = axes.get_ylim()
    ends = sorted(ends)
    heights = apart([end.y for end in ends], (high - low) / lines)
    for end, y in zip(ends, heights, strict=True):
        axes.annotate(
            end.text,
            (right, y),
            (10, 0),
            textcoords="offset points",
            color=end.colour,
            va="center",
            annotation_clip=False,
        )


def apart(positions: list[float], least: float) -> list[float]:
    """Move positions so that neighbours are `least` apart or more.

    Those that are too close are spread about their mean.

    Args:
        positions: In ascending order.
        least: Smallest distance of neighbours.

    Example:
        >>> apart([4, 5, 20], least=2)
        [3.5, 5.5, 20.0]
    """
    groups: list[list[float]] = []
    for position in positions:
        groups.append([position])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], least):
            later = groups.pop()
            groups[-1] += later
    return [position for group in groups for position in _spread(group, least)]


def _overlap(lower: list[float], upper: list[float], least: float) -> bool:
    """Whether two groups of positions, each spread, come too close to each other."""
    return _spread(upper, least)[0] < _spread(lower, least)[-1] + least


def _spread(group: list[float], least: float) -> list[float]:
    """As many positions at equal distances about the group's mean."""
    first = sum(group) / len(group) - least * (len(group) - 1) / 2
    return [first + least * i for i in range(len(group))]


def _equal_scores(axes: Axes, classes: set[int | None]) -> list[End]:
    """Mark the loss of a net that scores all classes alike.

    Training starts there, and stays there if the net learns nothing.

    Args:
        axes: Of the loss.
        classes: Their numbers in all histories; without one known number nothing is drawn.
    """
    if len(classes) > 1:
        return []
    (count,) = classes
    if count is None:
        return []
    loss = math.log(count)
    axes.axhline(loss, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)), label="equal scores")
    return [End(loss, f"equal scores, ln {count:,}", FAINT)]


def _log_rates(axes: Axes, histories: list[History]) -> None:
    """Make the axis logarithmic, with the rates of the histories as ticks."""
    used: set[float] = set()
    for history in histories:
        used |= {float(f"{rate:.6g}") for rate in (*history.epochs.lr, *history.steps.lr)}
    rates = sorted(used)
    axes.set_yscale("log")
    axes.set_ylim(rates[0] / 2, rates[-1] * 2)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    if len(rates) <= FEW_RATES:
        axes.set_yticks(rates, [f"{rate:g}" for rate in rates])


def _with_thousands(value: float, position: int | None) -> str:
    """The text of a tick, such as 1,000."""
    return f"{value:,.0f}"


def _title(histories: list[History], name: str) -> str:
    first = histories[0].config
    what = f"net {first.arch}, {first.s}" if len(histories) == 1 else f"{len(histories)} stages"
    return f"{name}: {what}, batch {first.batch}"


def _write(figure: Figure, path: Path) -> Path:
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")
    return path
