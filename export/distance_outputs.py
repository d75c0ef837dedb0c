"""Shows the table of distance files."""

from export.outputs import columns_of
from export.released_files import ExportedDistance
from vgg_deploy.progress import results
from vgg_deploy.terminal_tables import print_table

HEADS = (
    *("file", "MB", "input", "largest difference", "Spearman"),
    *("largest error", "RMS %", "mean distance", "cost", "not quantized"),
)
WORDS = ("file", "input", "cost", "not quantized")
SPARE = ("input", "mean distance", "RMS %")  # of a narrow terminal, the last of them first


def show_distances(exported: list[ExportedDistance]) -> None:
    """Print one line per file.

    Args:
        exported: Files with one reference, at least one.
    """
    rows = [_cells(file) for file in exported]
    title = f"Distances, against {exported[0].reference} in float32"
    print_table(title, columns_of(HEADS, rows, WORDS, SPARE))
    distorted = exported[0].distorted
    results().print(
        f"Largest difference: on built-in images of {len(exported[0].comparisons)} sizes. Spearman "
        f"to mean distance: on {distorted.photos} photos beside 15 distortions of each."
    )


def _cells(exported: ExportedDistance) -> list[str]:
    distorted = exported.distorted
    largest = max(comparison.difference for comparison in exported.comparisons)
    return [
        str(exported.path),
        f"{exported.size / 1e6:.1f}",
        exported.artifact.input,
        f"{largest:.1e}",
        f"{distorted.spearman:.5f}",
        f"{distorted.largest_error:.1e}",
        f"{distorted.error_pct:.2g}",
        f"{distorted.mean_distance:.3g}",
        distorted.rating,
        ", ".join(exported.kept),
    ]
