"""Tables of explained images: explained.csv and explained_layers.csv."""

from collections.abc import Sequence
from pathlib import Path

from bench.layers.explain import Explained, LayerEffect
from bench.report.sections import Section
from bench.report.table_texts import number, significant
from bench.report.tables import HeadAndCells, Texts, frame, show, write_frame
from vgg_deploy.printable import printable


def explained_section(
    found: Sequence[Explained], effects: Sequence[LayerEffect], out: Path
) -> list[Section]:
    """Write the CSV files, and print a sentence for each image and file.

    Args:
        found: One per image and file, at least one.
        effects: One per image, file and part of the net.
        out: Where the files go.
    """
    write_frame(frame(found), out / "explained.csv")
    write_frame(frame(effects), out / "explained_layers.csv")
    for one in found:
        print(printable(one.sentence()))
    texts = explained_texts(found)
    show(texts)
    return [Section(texts, "explained.csv"), *_effect_sections(found, effects)]


def explained_texts(found: Sequence[Explained]) -> Texts:
    """One row per image and file.

    Args:
        found: At least one.
    """
    columns: list[HeadAndCells] = [
        ("image", [one.image for one in found]),
        ("model", [one.model for one in found]),
        ("answers", [one.model_best for one in found]),
        ("float32", [one.reference_best for one in found]),
        ("margin", [significant(one.margin, 3) for one in found]),
        ("changed by", [f"{one.change:+.3g}" for one in found]),
        ("leaves its bound", [one.beyond or "none" for one in found]),
        ("changes it most", [one.most for one in found]),
    ]
    return Texts.of_columns("Images explained: margin of the float32 net's answer", columns)


def _effect_sections(found: Sequence[Explained], effects: Sequence[LayerEffect]) -> list[Section]:
    """A table of layers for each image and file."""
    sections = []
    for one in found:
        key = (one.image, one.model, one.runtime, one.precision)
        own = [e for e in effects if (e.image, e.model, e.runtime, e.precision) == key]
        title = f"{one.image}, {one.model} ({one.runtime} {one.precision}): layer by layer"
        columns: list[HeadAndCells] = [
            ("layer", [effect.layer for effect in own]),
            ("error / bound", [number(effect.of_bound, 2) for effect in own]),
            ("changes the margin by", [f"{effect.change:+.2g}" for effect in own]),
            ("margin left", [f"{effect.lead:+.3g}" for effect in own]),
        ]
        sections.append(Section(Texts.of_columns(title, columns), "explained_layers.csv"))
    return sections
