"""Measures a folder of cells, and removes those that were not used for long, or are too many.

A run writes the manifests of all its cells again, so the time of a manifest is that of the last
use. Files that are not named like a cell's are never touched.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import InputError

NAMED_LIKE_A_CELL = re.compile(
    r"(?P<stem>[\w-]+-Q\d+-[\w+-]+-[0-9a-f]{20})((\.partial)?\.(npy|json)|\.maps\.npz)(\.damaged)?"
)
DAY_S = 24 * 60 * 60


@dataclass(frozen=True)
class KeptCell:
    """The files of one cell.

    Attributes:
        files: Rows, manifest, and what was set aside.
        size: Bytes of all of them.
        used: When it was last used, seconds since 1970.
    """

    files: tuple[Path, ...]
    size: int
    used: float


@dataclass(frozen=True)
class Bound:
    """Which cells may stay.

    Attributes:
        days: Those that were used within so many days; None: all.
        size: As many bytes of those used last; None: all.
    """

    days: float | None = None
    size: int | None = None


def kept_cells(folder: Path) -> list[KeptCell]:
    """List the cells in a folder, the least recently used first; none if it does not exist.

    Raises:
        InputError: If it cannot be listed.
    """
    files: dict[str, list[Path]] = {}
    try:
        present = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        what = f"{folder}: cannot be listed ({error.strerror})"
        raise InputError(
            what, "check its permissions, or choose another folder with --cells"
        ) from None
    for path in present:
        match = NAMED_LIKE_A_CELL.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink():
            files.setdefault(match["stem"], []).append(path)
    cells = []
    for paths in files.values():
        states = [path.stat() for path in paths]
        size = sum(state.st_size for state in states)
        cells.append(KeptCell(tuple(sorted(paths)), size, max(s.st_mtime for s in states)))
    return sorted(cells, key=lambda cell: (cell.used, cell.files))


def to_remove(cells: Sequence[KeptCell], bounds: Sequence[Bound], now: float) -> list[KeptCell]:
    """Choose the cells that some bound excludes.

    Args:
        cells: The least recently used first.
        bounds: All of them hold.
        now: Seconds since 1970.
    """
    removed = []
    left = sum(cell.size for cell in cells)
    for cell in cells:
        too_old = any(b.days is not None and now - cell.used > b.days * DAY_S for b in bounds)
        too_much = any(b.size is not None and left > b.size for b in bounds)
        if too_old or too_much:
            removed.append(cell)
            left -= cell.size
    return removed


def prune(folder: Path, bounds: Sequence[Bound], dry_run: bool) -> str:
    """Remove cells.

    Args:
        folder: Of the cells; locked by the caller.
        bounds: Which may stay.
        dry_run: Remove nothing.

    Returns:
        A line about what was removed, and how much is left.

    Raises:
        InputError: If a file cannot be removed.
    """
    cells = kept_cells(folder)
    removed = to_remove(cells, bounds, time.time())
    if not dry_run:
        for path in (path for cell in removed for path in cell.files):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise InputError(f"{path}: cannot be removed ({error.strerror})") from None
    gone = sum(cell.size for cell in removed)
    left = sum(cell.size for cell in cells) - gone
    verb = "would remove" if dry_run else "removed"
    return (
        f"{folder}: {verb} {_counted(len(removed))}, {size_text(gone)}; "
        f"{_counted(len(cells) - len(removed))}, {size_text(left)}, "
        f"{'would stay' if dry_run else 'stay'}"
    )


def cells_line(folder: Path) -> str:
    """A line about the size of all cells in a folder, of this run and of others."""
    cells = kept_cells(folder)
    size = size_text(sum(cell.size for cell in cells))
    return f"Stored scores in {folder}: {_counted(len(cells))}, {size} (--prune removes old ones)"


def size_text(count: int) -> str:
    """Bytes for people.

    Example:
        >>> size_text(5_340_000_000), size_text(20), size_text(3_000)
        ('5.3 GB', '20 B', '3.0 kB')
    """
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"
