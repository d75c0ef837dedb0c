"""Judges localisers of the built-in images beside the best constant box, and draws their boxes.

    python benchmarks/localisation.py runs/A/best.pt runs/per-class/best.pt runs/shared/best.pt

The first net is the classifier, which chooses the labels. All come from

    python -m train --arch A --out runs/A
    python -m train --task localise --weights runs/A/best.pt --out runs/per-class
    python -m train --task localise --weights runs/A/best.pt --box-outputs shared --out runs/shared

and the same with --freeze-features --lr 0.003.
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from result_tables import environment_block, markdown_table

from bench.localisation.box_nets import BoxNet, open_box_nets
from bench.localisation.measure import LocalisationRecord, join_nets, measure_localisation
from bench.localisation.rows import CENTRE, LocalisationRow, localisation_rows
from bench.localisation.see_image import ImageSeen, Nets
from bench.models.model import ModelOptions, open_models
from bench.report.table_texts import bounds, number
from bench.report.tables import frame, write_frame
from vgg_deploy.boxes.answers import Merging
from vgg_deploy.boxes.localisation_error import is_right
from vgg_deploy.data.built_in_boxes import built_in_with_boxes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.files import write_text
from vgg_deploy.images.decode import rescale
from vgg_deploy.job import ALONE

RESULTS = Path(__file__).parent / "results"
SHOWN, COLUMNS, GAP, CAPTION = 12, 4, 10, 22  # of the drawing
TRUE, RIGHT, WRONG = "#ffffff", "#0072b2", "#d55e00"
HEADS = [
    *("boxes by", "tuned", "boxes", "protocol", "Q"),
    *("true class: error %", "95 %", "mean IoU %", "top-1 error %", "top-5 error %", "95 %"),
]


@click.command()
@click.argument("classifier", type=click.Path(path_type=Path))
@click.argument("localisers", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--images", default=300, show_default=True, help="Built-in validation images.")
@click.option("--threads", default=2, show_default=True)
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), show_default=True)
def main(
    classifier: Path, localisers: tuple[Path, ...], images: int, threads: int, out: Path
) -> None:
    """Measure LOCALISERS beside CLASSIFIER; the boxes of the first one are drawn."""
    models = open_models([classifier], ModelOptions(threads=threads))
    nets = [
        net._replace(name=net.path.parent.name)
        for path in localisers
        for net in open_box_nets([path], [], "cpu", threads)
    ]
    dataset = built_in_with_boxes("val", images)
    together = Nets(models, nets, join_nets(models, nets, dataset), True, Merging())
    every = localisation_rows(1, [net.spec for net in nets], None)
    rows = [row for row in every if len(row.members) == 1]
    found = measure_localisation(together, rows, dataset, threads, "stop", ALONE)
    write_frame(frame(found.records), out / "localisation.csv")
    tuned = {
        net.name: "fc6-fc8" if "only fc6-fc8 trained" in net.spec.recipe else "all" for net in nets
    }
    cells = [_cells(record, tuned) for record in found.records]
    text = [
        "# Localisation on built-in images",
        f"\n`python benchmarks/localisation.py ...`: {images} validation images, thin nets. A box "
        "is right if it overlaps one of the image's boxes by more than half; intervals "
        "are Wilson's. The nets:\n",
        *(f"- `{net.name}`: {net.spec.recipe}" for net in nets),
        "",
        markdown_table(HEADS, cells),
        f"![Images with boxes](localisation.png)\n\nTrue boxes are white; the box of the best "
        f"label by `{nets[0].name}` (whole image, one Q) is blue where it is right, else red.\n",
        environment_block(threads),
    ]
    write_text(out / "localisation.md", "\n".join(text))
    dense = next(row for row in rows if row.protocol != CENTRE)
    draw(together, nets[0], dense, dataset, out / "localisation.png")


def _cells(record: LocalisationRecord, tuned: dict[str, str]) -> list[str]:
    """A row of the Markdown table."""
    return [
        record.boxes_by,
        tuned.get(record.boxes_by, ""),
        record.boxes,
        record.protocol,
        record.scales,
        number(record.true_class_error_pct, 1),
        bounds(record.true_class_low_pct, record.true_class_high_pct),
        number(record.mean_iou_pct, 1),
        number(record.top1_error_pct, 1),
        number(record.top5_error_pct, 1),
        bounds(record.top5_low_pct, record.top5_high_pct),
    ]


def draw(nets: Nets, net: BoxNet, row: LocalisationRow, dataset: Dataset, path: Path) -> None:
    """Draw true boxes, and the merged box of the best label, over images of all classes.

    Args:
        nets: Of the row.
        net: That states the boxes.
        row: Whole images at one scale.
        dataset: Images with boxes.
        path: Of the drawing.
    """
    chosen = [(place * len(dataset) // SHOWN + 3) % len(dataset) for place in range(SHOWN)]
    tiles = [_tile(nets, net, row, dataset, index) for index in chosen]
    width = max(tile.width for tile in tiles) + GAP
    height = max(tile.height for tile in tiles) + GAP
    lines = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, lines * height + GAP), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (GAP + place % COLUMNS * width, GAP + place // COLUMNS * height))
    sheet.quantize(256).save(path)


def _tile(
    nets: Nets, net: BoxNet, row: LocalisationRow, dataset: Dataset, index: int
) -> Image.Image:
    """One image with its boxes and a line of text."""
    image = dataset.decode(index)
    filter = net.spec.preprocessing.filter
    at_q = {side: rescale(image, side, filter).numpy() for side in row.sides}
    label = int(dataset.labels[index])
    seen = ImageSeen(nets, at_q, dataset.size(index))
    answers = seen.answers(row, label)
    best, box = int(answers.labels[0]), answers.boxes[0]
    assert dataset.boxes is not None
    right = best == label and is_right(box, dataset.boxes[index])
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    tile = Image.new("RGB", (pixels.width, pixels.height + CAPTION), "white")
    tile.paste(pixels)
    pen = ImageDraw.Draw(tile)
    last = np.array([1, 1])  # the right and lower edges belong to the next pixels
    for true in dataset.boxes[index]:
        pen.rectangle([*true[:2], *(true[2:] - last)], outline=TRUE, width=1)
    colour = RIGHT if right else WRONG
    drawn = np.clip(box.round(), 0, [pixels.width, pixels.height] * 2)
    low, high = drawn[:2], np.maximum(drawn[2:] - last, drawn[:2])
    pen.rectangle([*low, *high], outline=colour, width=2)
    text = f"{dataset.names[best]}: {'right' if right else 'wrong'}"
    pen.text((2, pixels.height + 3), text, colour, ImageFont.load_default(14))
    return tile


if __name__ == "__main__":
    main()
