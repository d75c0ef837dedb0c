"""Finds the newest files that the three commands leave for each other."""

from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import read_json
from vgg_deploy.regular_files import real_path

RUNS = Path("runs")  # one folder per training run, with best.pt
EXPORTED = Path("exported")  # models and their manifests
LAST_EXPORT = "export.json"  # lists the files of the last vgg-export


def newest_run(runs: Path = RUNS, holding: str = "best.pt") -> Path:
    """The folder of the run, or of a chain's stage, that was written last.

    Args:
        runs: The folder of all runs.
        holding: The file whose time counts.

    Raises:
        InputError: If no run has this file.
    """
    files = newest_first(runs, holding)
    if not files:
        raise InputError(
            f"{real_path(runs)}: no run with a {holding} here",
            "train one with `python -m train`, or name a file",
        )
    return files[0].parent


def newest_first(runs: Path, holding: str) -> list[Path]:
    """The files of one name in all runs and stages of chains, newest first."""
    return sorted(
        (*runs.glob(f"*/{holding}"), *runs.glob(f"*/*/{holding}")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )


def newest_exports(exported: Path = EXPORTED) -> list[Path]:
    """The models that the last vgg-export wrote.

    Args:
        exported: The folder of all exports.

    Raises:
        InputError: If there is no list of exports, or if it is damaged.
    """
    manifest = exported / LAST_EXPORT
    again = "run vgg-export again"
    if not manifest.exists():
        raise InputError(
            f"{real_path(exported)}: no exported models here",
            "write one with vgg-export, or name a file",
        )
    rows = read_json(manifest, again)
    if not isinstance(rows, list):
        raise InputError(f"{manifest}: is not a list of exports", again)
    return [exported / _file_of(row, manifest, again) for row in rows]


def _file_of(row: object, manifest: Path, hint: str) -> str:
    file = row.get("file") if isinstance(row, dict) else None
    if not isinstance(file, str):
        raise InputError(f"{manifest}: has an entry that names no file", hint)
    return file
