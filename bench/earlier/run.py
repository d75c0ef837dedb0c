"""Reads the folder of results of an earlier run, which may be of an earlier version."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.earlier.csv_files import HINT, Wanted, read_columns
from bench.results.commit import Commit
from bench.results.machine import Machine
from bench.results.results_folder import ENVIRONMENT, MANIFEST
from vgg_deploy.errors import InputError
from vgg_deploy.json_files import JsonObject, entry, read_json_object

MODEL = ("model", "runtime", "precision")
ROW = (*MODEL, "protocol", "scales", "flips")
SIZE = ("height_px", "width_px", "batch")
ERRORS = tuple(f"top{k}_{part}_pct" for k in (1, 5) for part in ("error", "low", "high"))
ACCURACY = Wanted((*MODEL, "protocol", "scales"), ("images", *ERRORS), ("flips",))
PREDICTIONS = Wanted(
    (*MODEL, "protocol", "scales", "image", "label", "best"), ("posterior", "rank"), ("flips",)
)
LATENCY = Wanted(
    (*MODEL, "device"),
    ("threads", *SIZE, "median_ms", "median_low_ms", "median_high_ms"),
    ("steady",),
    ("joules_per_image",),
)
MEMORY = Wanted(
    (*MODEL, "device"),
    ("threads", *SIZE, "peak_mib", "peak_low_mib", "peak_high_mib", "device_mib"),
)
FILES = Wanted((*MODEL, "version", "sha256", "path"), ("size_mb",))
IMAGES = Wanted(("image", "sha256"))


class Key(NamedTuple):
    """What names a model from run to run."""

    model: str
    runtime: str
    precision: str

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.model} ({self.runtime} {self.precision})"


class EarlierFile(NamedTuple):
    """What an earlier run says of a model's file.

    Attributes:
        version: Of the runtime.
        sha256: Of its content.
        path: Where it lay.
        size_mb: Of all its files, 10^6 bytes.
    """

    version: str
    sha256: str
    path: str
    size_mb: float


@dataclass(frozen=True)
class EarlierRun:
    """A folder of results. Tables are read when they are first asked for.

    Attributes:
        folder: Where it lies.
        run_id: Of the run; empty in folders of early versions.
        when: When it began.
        commit: Of its working directory, if it was a repository.
        machine: Where it ran.
        host: Name of that machine.
        data_sha256: Of the images it scored; empty if it does not say.
        versions: Of packages.
    """

    folder: Path
    run_id: str
    when: datetime
    commit: Commit | None
    machine: Machine
    host: str
    data_sha256: str
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """The commit, or else the time: for axes and tables."""
        return self.commit.shown if self.commit else f"{self.when:%Y-%m-%d %H:%M}"

    @cached_property
    def accuracy(self) -> pd.DataFrame | None:
        """Errors by row."""
        return read_columns(self.folder / "accuracy.csv", ACCURACY)

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """Best classes by row and image."""
        return read_columns(self.folder / "predictions.csv", PREDICTIONS)

    @cached_property
    def latency(self) -> pd.DataFrame | None:
        """Times by model and size."""
        return read_columns(self.folder / "latency.csv", LATENCY)

    @cached_property
    def memory(self) -> pd.DataFrame | None:
        """Memory by model and size."""
        return read_columns(self.folder / "memory.csv", MEMORY)

    @cached_property
    def image_hashes(self) -> Mapping[str, str]:
        """SHA-256 of the images by name; empty if the run kept none."""
        table = read_columns(self.folder / "images.csv", IMAGES)
        return {} if table is None else dict(zip(table["image"], table["sha256"], strict=True))

    @cached_property
    def files(self) -> Mapping[Key, EarlierFile]:
        """Files by model; empty if the run did not list them."""
        table = read_columns(self.folder / "files.csv", FILES)
        if table is None:
            return {}
        return {
            Key(*(row[name] for name in MODEL)): EarlierFile(
                *(row[name] for name in EarlierFile._fields)
            )
            for row in table.to_dict("records")
        }


def is_results_folder(folder: Path) -> bool:
    """Whether a folder has the file that every run leaves."""
    return os.path.isfile(folder / ENVIRONMENT)


def open_earlier(folder: Path) -> EarlierRun:
    """Open a folder of results.

    Args:
        folder: As --out named it.

    Raises:
        InputError: If it is no such folder, or is damaged.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder", "name the results of an earlier run")
    if not is_results_folder(folder):
        raise InputError(
            f"{folder}: has no {ENVIRONMENT}, so it holds no results of vgg-bench",
            "name the folder of an earlier --out",
        )
    _refuse_two_runs(folder)
    path = folder / ENVIRONMENT
    environment = read_json_object(path, HINT)
    data = environment.get("data")
    return EarlierRun(
        folder=folder,
        run_id=_text(environment, "run_id"),
        when=_time(environment, path),
        commit=Commit.of_record(environment.get("commit")),
        machine=Machine.of_environment(environment),
        host=_text(environment, "host"),
        data_sha256=_text(data, "sha256") if isinstance(data, dict) else "",
        versions=_texts(environment.get("versions")),
    )


def _refuse_two_runs(folder: Path) -> None:
    """Refuse a folder in which files of two runs lie, because one was killed as it published."""
    manifest = folder / MANIFEST
    if manifest.exists() and read_json_object(manifest, HINT).get("complete") is False:
        raise InputError(f"{folder}: holds files of two runs, as one was cut off", HINT)


def _time(environment: JsonObject, path: Path) -> datetime:
    text = entry(environment, "when", str, str(path), HINT)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{path}: when is {text!r:.60}, expected: a time", HINT) from None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def _text(entries: Mapping[str, object], key: str) -> str:
    """A text; empty if it is missing or something else."""
    value = entries.get(key)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}


def shown_names(names: Sequence[str], most: int = 5) -> str:
    """Some names, and how many more there are.

    Args:
        names: At least one.
        most: So many are named.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
