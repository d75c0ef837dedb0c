"""Linear SVMs beside logistic regression on the same descriptors, as in appendix B.

    vgg-features D.pt photos --layers relu7 --out features
    python benchmarks/transfer.py --features features

    python benchmarks/transfer.py --weights D.pt --data photos --layers relu7 --scales 256,384,512

Both learn from the same images of the same random splits, choose C on the same held-out fifth of
the training images from the same values, and are scored by the mean class recall of the test
images. The SVMs are those of `python -m train.transfer`; the other is scikit-learn's
LogisticRegression, multinomial.
"""

from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pandas as pd
from result_tables import environment_block, markdown_table, write_csv

from train.transfer.__main__ import parse_grid
from train.transfer.class_labels import ClassLabels, listed_classes
from train.transfer.descriptors import Descriptors, open_descriptors
from train.transfer.outcome import GridRow, choose, spread
from train.transfer.single import SingleProtocol, class_recalls, draw_splits
from train.transfer.splits import Split, held_out_by_class
from train.transfer.svm import fit
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.progress import progress
from vgg_deploy.statistics.binomial import at_most, lower_bound, upper_bound

METHODS = ("SVM", "logistic regression")
CONFIDENCE = 0.95
HEADS = ("descriptor", "numbers", "method", "recall %", "lowest", "highest", "C")
PAIRS = ("descriptor", "SVM minus regression", "splits won, equal, lost")
ONE_SPLIT = ("descriptor", "method", "right", "share %", "95 % exact", "only this one right", "p")


class Answers(NamedTuple):
    """What one method says about the test images of one split."""

    c: float
    found: np.ndarray  # (images,) int64


def answers(
    method: str,
    rows: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    classes: int,
    grid: tuple[float, ...],
    seeds: tuple[int, int],
) -> Answers:
    """Choose C, learn, and classify the test images.

    Args:
        method: One of METHODS.
        rows: Descriptors of the training and of the test images.
        labels: Of the training images.
        classes: Number of classes.
        grid: Values of C.
        seeds: Of the run, and number of the split.
    """
    train, test = rows
    held = held_out_by_class(labels, seeds)
    scored = []
    for c in grid:
        found = classify(method, train[~held], labels[~held], train[held], c, classes, seeds[0])
        score = float(class_recalls(labels[held], found, classes).mean())
        scored.append(GridRow(seeds[1], c, 100 * score, True))
    (best,) = (row for row in choose(scored) if row.chosen)
    found = classify(method, train, labels, test, best.c, classes, seeds[0])
    return Answers(best.c, found)


def classify(
    method: str,
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    c: float,
    classes: int,
    seed: int,
) -> np.ndarray:
    """Learn from images and classify others.

    Returns:
        (test images,) int64.
    """
    if method == "SVM":
        return fit(train, labels, classes, c, seed).scores(test).argmax(1)
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=10_000)
    found: np.ndarray = model.fit(train.astype(np.float64), labels).predict(test)
    return found


def measure(
    name: str,
    descriptors: Descriptors,
    labelled: ClassLabels,
    splits: list[Split],
    grid: tuple[float, ...],
    seed: int,
) -> pd.DataFrame:
    """One row per split and method.

    Args:
        name: Of the descriptor.
        descriptors: Of all images.
        labelled: Their classes.
        splits: Images to learn from and to classify.
        grid: Values of C.
        seed: Of the held-out images and the SVMs.
    """
    lines = []
    classes = len(labelled.classes)
    with progress(name, len(splits) * len(METHODS)) as bar:
        for number, split in enumerate(splits, start=1):
            rows = descriptors.take(split.train), descriptors.take(split.test)
            truth = labelled.labels[split.test]
            right = {}
            for method in METHODS:
                given = answers(
                    method, rows, labelled.labels[split.train], classes, grid, (seed, number)
                )
                right[method] = given.found == truth
                lines.append(
                    {
                        "descriptor": name,
                        "numbers": descriptors.width,
                        "split": number,
                        "method": method,
                        "c": given.c,
                        "recall_pct": 100
                        * float(class_recalls(truth, given.found, classes).mean()),
                        "right": int(right[method].sum()),
                        "test_images": len(truth),
                    }
                )
                bar.advance()
            for line, method, other in zip(lines[-2:], METHODS, METHODS[::-1], strict=True):
                line["only_this_right"] = int((right[method] & ~right[other]).sum())
    return pd.DataFrame(lines)


def mcnemar(one: int, other: int) -> float:
    """Exact two-sided p of McNemar's test.

    Args:
        one: Images that only one method classifies right.
        other: Images that only the other does.
    """
    return min(1.0, 2 * at_most(min(one, other), one + other, 0.5)) if one + other else 1.0


def mean_and_spread(values: list[float], form: str) -> str:
    """The mean, and the standard deviation where there are several values."""
    more = f" ± {spread(values):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{more}"


def overview(table: pd.DataFrame) -> str:
    """Mean and spread over splits, by descriptor and method."""
    rows = []
    for (name, method), group in table.groupby(["descriptor", "method"], sort=False):
        values = group.recall_pct.tolist()
        often = ", ".join(f"{c:g} ({n})" for c, n in group.c.value_counts().sort_index().items())
        rows.append(
            [
                name,
                str(group.numbers.iloc[0]),
                method,
                mean_and_spread(values, ".2f"),
                f"{min(values):.2f}",
                f"{max(values):.2f}",
                often,
            ]
        )
    return markdown_table(HEADS, rows)


def pairs(table: pd.DataFrame) -> str:
    """Differences of the two methods on the same splits."""
    rows = []
    for name, group in table.groupby("descriptor", sort=False):
        by_method = group.pivot(index="split", columns="method", values="recall_pct")
        differences = (by_method[METHODS[0]] - by_method[METHODS[1]]).tolist()
        counts = [sum(np.sign(d) == sign for d in differences) for sign in (1, 0, -1)]
        rows.append(
            [
                name,
                mean_and_spread(differences, "+.2f"),
                ", ".join(map(str, counts)),
            ]
        )
    return markdown_table(PAIRS, rows)


def first_split(table: pd.DataFrame) -> str:
    """Exact intervals and McNemar's test on the test images of the first split."""
    rows = []
    alpha = (1 - CONFIDENCE) / 2
    for name, group in table[table.split == 1].groupby("descriptor", sort=False):
        p = mcnemar(*group.only_this_right)
        for line in group.itertuples():
            low = 100 * lower_bound(line.right, line.test_images, alpha)
            high = 100 * upper_bound(line.right, line.test_images, alpha)
            rows.append(
                [
                    name,
                    line.method,
                    f"{line.right} of {line.test_images}",
                    f"{100 * line.right / line.test_images:.1f}",
                    f"{low:.1f} to {high:.1f}",
                    str(line.only_this_right),
                    f"{p:.2g}" if line.method == METHODS[0] else "",
                ]
            )
    return markdown_table(ONE_SPLIT, rows)


def written_features(weights: str, data: str, layers: str, scales: str | None, out: Path) -> Path:
    """Run vgg-features, or go on with what it has written."""
    from bench.features.cli import main as vgg_features

    words = [weights, data, "--layers", layers, "--out", str(out)]
    vgg_features.main([*words, *(("--scales", scales) if scales else ())], standalone_mode=False)
    return out


def name_of(descriptors: Descriptors) -> str:
    """The layer, and Q of each folder: "pool5, Q 256 + 384"."""
    sides = (part.folder.settings.scales for part in descriptors.parts)
    return (
        f"{descriptors.parts[0].layer}, Q {' + '.join(','.join(map(str, side)) for side in sides)}"
    )


def describe(descriptors: Descriptors) -> str:
    """Where the descriptors come from, in one line per folder."""
    lines = []
    for part in descriptors.parts:
        settings = part.folder.settings
        model = settings.model
        lines.append(
            f"- {model.name} (net {model.arch}, sha256 {model.sha256[:12]}), {model.runtime} "
            f"{model.precision}, dense, averaged over positions"
            f"{', with mirror images' if settings.flips else ''}, "
            f"Q {', '.join(map(str, settings.scales))} ({settings.joined})"
        )
    return "\n".join(lines)


@click.command(context_settings={"show_default": True})
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Of vgg-features; several are measured alone and side by side.",
)
@click.option("--weights", help="Instead of --features: what vgg-features opens.")
@click.option("--data", help="With --weights: class folders.")
@click.option("--layers", default="relu7", help="Each layer is measured, and compared.")
@click.option("--scales", help="With --weights: Q.")
@click.option("--splits", default=10)
@click.option("--train-per-class", default=30)
@click.option("--test-per-class", default=50)
@click.option("--c-grid", default="0.01,0.1,1,10,100,1000", callback=parse_grid)
@click.option("--seed", default=0)
@click.option("--note", default="", help="Sentences about the net and the images for the page.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    features: tuple[Path, ...],
    weights: str | None,
    data: str | None,
    layers: str,
    scales: str | None,
    splits: int,
    train_per_class: int,
    test_per_class: int,
    c_grid: tuple[float, ...],
    seed: int,
    note: str,
    out: Path,
) -> None:
    """Write transfer.csv and transfer.md."""
    if bool(features) == bool(weights and data):
        raise click.UsageError("name --features, or --weights and --data")
    if weights and data:
        features = (written_features(weights, data, layers, scales, out / "transfer_features"),)
    tables = []
    opened: Descriptors | None = None
    try:
        for layer in layers.split(","):
            alone = [(folder,) for folder in features] if len(features) > 1 else []
            for folders in (*alone, features):
                opened = open_descriptors(folders, layer, None)
                labelled = listed_classes(opened.classes, opened.labels)
                drawn = draw_splits(
                    labelled, SingleProtocol(splits, train_per_class, test_per_class, seed)
                )
                tables.append(measure(name_of(opened), opened, labelled, drawn, c_grid, seed))
    except InputError as error:
        raise click.ClickException(error.message) from None
    assert opened
    table = pd.concat(tables)
    write_csv(table, out / "transfer.csv")
    images = f"{len(drawn[0].train)} training and {len(drawn[0].test)} test images"
    described = "\n\n".join(part for part in (describe(opened), note) if part)
    text = (
        "# Linear SVMs beside logistic regression\n\n"
        f"{described}\n\n"
        f"{len(opened.images):,} images of {len(labelled.classes)} classes; {splits} random splits "
        f"of {images}. Descriptors are L2-normalised. C is chosen for each split and method on a "
        f"fifth of the training images, from {', '.join(f'{c:g}' for c in c_grid)}; in brackets: "
        f"number of splits.\n\n"
        f"Mean class recall, mean ± standard deviation over the splits:\n\n{overview(table)}\n"
        f"On the same splits, in percentage points:\n\n{pairs(table)}\n"
        "The splits share images, so their standard deviation is not that of another data set. "
        "The test images of one split are independent of each other: for the first split, the "
        "exact binomial interval (Clopper and Pearson), the images that only one of the two "
        f"methods classifies right, and McNemar's exact p:\n\n{first_split(table)}\n"
        "`python benchmarks/transfer.py`, whose options are in the block; scikit-learn "
        f"{version('scikit-learn')}.\n\n"
        f"{environment_block(1)}"
    )
    write_text(out / "transfer.md", text)
    print(text)


if __name__ == "__main__":
    main()
