"""Where the three tools leave their files for each other, and which of them is the newest."""

import json
from pathlib import Path

from vgg_deploy.errors import InputError

RUNS = Path("runs")  # one folder a training run, with best.pt
EXPORTED = Path("exported")  # models and their manifests
LAST_EXPORT = "export.json"  # lists the files of the last vgg-export


def newest_run(runs: Path = RUNS, holding: str = "best.pt") -> Path:
    """The folder below `runs`, of a run or of a chain's stage, whose file `holding` was written last."""
    found = newest_first(runs, holding)
    if not found:
        raise InputError(
            f"{runs.resolve()}: no run with a {holding} here; train one with `python -m train`, or name a file"
        )
    return found[0].parent


def newest_first(runs: Path, holding: str) -> list[Path]:
    """These files of all runs and stages of chains."""
    return sorted(
        (*runs.glob(f"*/{holding}"), *runs.glob(f"*/*/{holding}")),
        key=lambda p: p.stat().st_mtime,
        reverse=True,
    )


def newest_exports(exported: Path = EXPORTED) -> list[Path]:
    """The models that the last vgg-export wrote."""
    listing = exported / LAST_EXPORT
    try:
        files = [
            exported / entry["file"] for entry in json.loads(listing.read_text(encoding="utf-8"))
        ]
    except OSError:
        raise InputError(
            f"{exported.resolve()}: no exported models here; write one with vgg-export, or name a file"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{listing}: not a list of exports ({error!r}); run vgg-export again"
        ) from None
    return files
