"""The commit of the working directory, if it is a git repository."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20.0  # that git may take; a repository on a slow disk has no commit then
NO_PROGRAM_OF_THE_REPOSITORY = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
SHOWN = 7  # digits of an id in figures
HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Commit:
    """A commit.

    Attributes:
        id: 40 or 64 hex digits.
        changed: Whether files that git follows differ from it; None if that is not known.
    """

    id: str
    changed: bool | None

    @property
    def shown(self) -> str:
        """The first digits, with a plus sign if files were changed."""
        return self.id[:SHOWN] + ("+" if self.changed else "")

    def record(self) -> dict[str, object]:
        """Ready for JSON."""
        return {"id": self.id, "changed": self.changed}

    @classmethod
    def of_record(cls, record: object) -> "Commit | None":
        """Read what `record` gives; None for anything else."""
        if not isinstance(record, Mapping):
            return None
        found, changed = record.get("id"), record.get("changed")
        if not isinstance(found, str) or not HEX.fullmatch(found):
            return None
        return cls(found, changed if isinstance(changed, bool) else None)


def commit_of(folder: Path) -> Commit | None:
    """Ask git for the commit that a folder is at.

    git is called without a shell, uses no network, changes nothing, and waits for nobody.

    Args:
        folder: Any folder.

    Returns:
        None without git, outside a repository, in one without commits, and in one of another user.
    """
    found = _git(folder, ["rev-parse", "--verify", "HEAD"])
    if found is None or not HEX.fullmatch(found.strip()):
        return None
    status = _git(folder, ["status", "--porcelain", "--untracked-files=no"])
    return Commit(found.strip(), None if status is None else bool(status.strip()))


def _git(folder: Path, words: Sequence[str]) -> str | None:
    """What a git command writes; None if it fails."""
    quiet = {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }
    try:
        done = subprocess.run(
            ["git", *NO_PROGRAM_OF_THE_REPOSITORY, *words],
            cwd=folder,
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
