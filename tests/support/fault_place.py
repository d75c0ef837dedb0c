"""A folder with nets and photos, the commands that are tried on them, and what they must leave."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support.faulty_process import Commands, Ended, half_written, remains
from tests.support.nets import CLASSES, photo_of, save_net, thin_net

# How a sentence says what to do next
WAYS = (
    "resume", "run again", "run the same", "same command", "start again", "start after", "free ",
    "raise ", "lower ", "use fewer", "choose", "make space", "wait", "correct", "check", "remove",
    "change to", "set ", "send it", "use ", "look at", "restarts", "more of it", "give ",
)  # fmt: skip

FULL = "No space left on device"  # says by itself what to do


class Row(NamedTuple):
    """One run under a fault.

    Attributes:
        command: Its name in `Place.jobs`.
        fault: What was done to it.
        code: Its exit code, or minus the signal that killed it.
        said: Its one sentence, or its last words.
        left: What is not in order; empty if everything is.
        way_on: What was seen to work afterwards, or what the sentence says to do.
    """

    command: str
    fault: str
    code: int
    said: str
    left: str
    way_on: str


class Place:
    """Nets, photos, commands, and a server that starts them. Close it at the end."""

    def __init__(self, root: Path):
        self.root, rng = root, np.random.default_rng(7)
        root.mkdir(exist_ok=True)
        save_net(thin_net("A"), root / "A.pt")
        shutil.copy(root / "A.pt", root / "copy.pt")  # which the gate lets pass
        for split in ("train", "val"):
            for name in CLASSES:
                (root / "photos" / split / name).mkdir(parents=True)
                for i in range(3):
                    photo_of(name, rng).save(root / "photos" / split / name / f"{i}.png")
        net, photos = root / "A.pt", root / "photos"
        own = ("--threads", 1)
        recipe = (
            *("--arch", "A", "--width", "0.0625", "--crop", 32, "--side", "32:64", "--batch", 4),
            *("--init", "he", "--lr", "0.003", "--epochs", 1, "--data", photos, "--out", "run"),
        )
        calibrated = ("--calibration", photos, "--calibration-images", 8)
        self.jobs: dict[str, tuple] = {
            "train": ("train", *recipe, "--checkpoint-every", 2, "--workers", 1, *own),
            "train --freeze-features": (
                *("train", *recipe, "--weights", net, "--freeze-features", "--workers", 0, *own),
            ),
            "train.pack": ("pack", photos, "shards", "--images-per-shard", 6),
            "export": (
                *("export", net, "--onnx", "--precision", "fp32,int8", *calibrated, *own),
                *("--triton", "models"),
            ),
            "export --external-data --ncnn": (
                *("export", net, "--onnx", "--external-data", "--ncnn", "--triton", "models", *own),
            ),
            "bench": (
                *("bench", net, root / "copy.pt", "--data", photos, "--scales", "32"),
                *("--protocols", "centre", "--measure", "accuracy", "--max-top1-drop", "100"),
                *("--threads", 2),
            ),
            "predict": ("predict", net, photos / "val", "--out", "predicted.csv", *own),
            "features": ("features", net, photos, "--scales", "32", "--shard", "6", *own),
        }
        (root / "logs").mkdir()
        self.commands, self.count = Commands(root / "logs"), 0

    def start(self, here: Path, name: str, **how):
        """Start a command by its name, with a cache in its own folder."""
        return self.commands.start(here, *self.jobs[name], VGG_DEPLOY_CACHE=str(here / ".c"), **how)

    def run(self, here: Path, name: str, **how) -> Ended:
        """Run a command by its name to its end."""
        return self.start(here, name, **how).wait()

    def again(self, here: Path, name: str) -> Ended:
        """Go on after a fault: training resumes, shards are packed anew, others run again."""
        if name.startswith("train") and (here / "run" / "config.json").exists():
            words = ("--resume", "run", "--threads", 1, "--workers", 0)
            return self.commands.run(here, "train", *words, VGG_DEPLOY_CACHE=str(here / ".c"))
        if name == "train.pack":
            shutil.rmtree(here / "shards", ignore_errors=True)
        return self.run(here, name)

    def here(self, like: Path | None = None) -> Path:
        """A new working folder, empty or a copy of another."""
        self.count += 1
        folder = self.root / f"here{self.count}"
        if like:
            shutil.copytree(like, folder)
        else:
            folder.mkdir()
        return folder


def row(name: str, fault: str, ended: Ended, here: Path, way: str = "") -> Row:
    """Judge a run by its end and by what it left."""
    left = [ended.fault, *remains(here), *half_written(here)]
    said = sentence(ended)
    if FULL in said:
        way = "make space, then as after any other end"
    elif ended.code > 0 and not way:
        way = next((said[said.find(word) :] for word in WAYS if word in said), "")
        left += [] if way else ["says no way on"]
    return Row(name, fault, ended.code, said, "; ".join(filter(None, left)), way)


def sentence(ended: Ended) -> str:
    """What a run said when it failed."""
    start = ended.output.rfind("Error: ")
    return ended.output[start:][:400] if ended.code and start >= 0 else ""


def results_of(folder: Path) -> dict[str, str]:
    """Digests of what a command computed, without times, dates and caches."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith("."):
            continue
        if path.suffix in (
            ".onnx",
            ".data",
            ".bin",
            ".param",
            ".tar",
            ".index",
            ".npy",
        ) or path.name in (
            *("best.pt", "predicted.csv", "accuracy.csv", "comparisons.csv", "export.json"),
            *("predictions.csv",),
        ):
            found[name] = hashlib.sha256(_stable(path)).hexdigest()
        elif path.name == "metrics.csv":
            import pandas as pd

            table = pd.read_csv(path).drop(columns=["images_per_s", "elapsed_s"])
            found[name] = table.to_csv()
    return found


def _stable(path: Path) -> bytes:
    """The bytes of a file without times; of a checkpoint those of its weights."""
    if path.name == "accuracy.csv":
        import pandas as pd

        return pd.read_csv(path).drop(columns="ms_per_image").to_csv().encode()
    if path.suffix != ".pt":
        return path.read_bytes()
    from vgg_deploy.net.checkpoint import load_checkpoint

    return b"".join(t.numpy().tobytes() for t in load_checkpoint(path).weights.values())


def differs(folder: Path, expected: dict[str, str]) -> str:
    """What is not as in an undisturbed run; empty if all is."""
    found = results_of(folder)
    wrong = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
    return f"other results than undisturbed: {', '.join(wrong)}" if wrong else ""


def without_locks(folder: Path) -> None:
    """Remove a working folder."""
    shutil.rmtree(folder, ignore_errors=True)


def environment(here: Path) -> dict[str, str]:
    """That of a real process, whose cache lies in its working folder."""
    return {**os.environ, "VGG_DEPLOY_CACHE": str(here / ".c"), "OMP_NUM_THREADS": "1"}
