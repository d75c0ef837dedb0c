"""The faults: each function runs a command under one kind of them and yields how it ended.

A run is in order if it succeeds, or ends with one sentence that says a way on; if no temporary file
is left, except by SIGKILL until the next run; and if every file with a final name is whole.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.support.fault_place import Place, Row, differs, environment, results_of, row
from tests.support.faulty_process import ROOT, TOO_LONG, Ended
from tests.support.nets import CLASSES, photo_of
from tests.support.warm import until

MIB = 2**20
DESCRIPTORS = (12, 16, 24, 32, 64)
MEMORY = (20, 100, 300, 1000)  # MiB of addresses above those of the libraries
MODULES = {
    "train": "train",
    "pack": "train.pack",
    "predict": "bench.predict",
    "features": "bench.features",
}


def full_disk(place: Place, name: str, step: int = 1, first: int = 1) -> Iterator[Row]:
    """The n-th write fails, in an empty folder; every fourth of these also over older files."""
    base = place.here()
    writes = place.run(base, name, nth=0).writes
    for nth in range(first, writes + 1, step):
        for like in (None, base) if nth % 4 == 1 else (None,):
            if like and name.startswith("train"):
                continue  # which refuses older files
            here = place.here(like)
            ended = place.run(here, name, nth=nth)
            where = "over older files" if like else "in an empty folder"
            yield row(name, f"disk full at write {nth} of {writes}, {where}", ended, here)
            shutil.rmtree(here)


def killed(place: Place, name: str, times: int, seed: int, each: int = 5) -> Iterator[Row]:
    """SIGKILL at random moments; after some of them the command finishes and is compared."""
    rng, base = random.Random(seed), place.here()
    seconds = place.run(base, name).seconds
    expected, here = results_of(base), place.here()
    for number in range(1, times + 1):
        going_on = name.startswith("train") and (here / "run" / "config.json").exists()
        resume = ("--resume", "run", "--threads", 1, "--workers", 1)
        running = (
            place.commands.start(here, "train", *resume, VGG_DEPLOY_CACHE=str(here / ".c"))
            if going_on
            else place.start(here, name)
        )
        at = rng.uniform(0, seconds)
        time.sleep(at)
        os.kill(running.pid, signal.SIGKILL)
        ended = running.wait()
        until(lambda session=running.pid: not in_session(session), 30)
        left = half_left(here)
        yield Row(name, f"SIGKILL after {at:.2f} s", ended.code, "", left, "the next start")
        if number % each and number < times:
            continue
        after = place.again(here, name)
        found = row(name, "the next start after SIGKILL", after, here, "finished")
        left = "; ".join(filter(None, [found.left, differs(here, expected)]))
        yield found._replace(left=left or ("" if after.code == 0 else "did not finish"))
        here = place.here()


def half_left(here: Path) -> str:
    """Files with final names that are not whole."""
    from tests.support.faulty_process import half_written

    return "; ".join(half_written(here))


def in_session(session: int) -> list[int]:
    """Processes of a session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def signals(place: Place, name: str, seed: int, times: int = 2) -> Iterator[Row]:
    """SIGTERM, SIGHUP and Ctrl-C at random moments; then the way on is tried."""
    rng, base = random.Random(seed), place.here()
    seconds = place.run(base, name).seconds
    expected = results_of(base)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        for number in range(times):
            here = place.here()
            running = place.start(here, name)
            at = rng.uniform(0.05, seconds)
            time.sleep(at)
            os.kill(running.pid, signum)
            found = row(name, f"{signum.name} after {at:.2f} s", running.wait(), here)
            if found.code not in (0, 128 + signum):
                found = found._replace(left=f"{found.left}; exit code {found.code}".strip("; "))
            if number == 0:
                after = place.again(here, name)
                wrong = differs(here, expected) if after.code == 0 else row("", "", after, here)[3]
                found = found._replace(left="; ".join(filter(None, [found.left, wrong])))
            yield found
            shutil.rmtree(here)


def limits(place: Place, name: str, descriptors=DESCRIPTORS, memory=MEMORY) -> Iterator[Row]:
    """Too few descriptors (`ulimit -n`), or too little memory (`ulimit -v`)."""
    status = Path(f"/proc/{place.commands.process.pid}/status").read_text()
    libraries = int(status.split("VmSize:")[1].split()[0]) * 1024
    for number in descriptors:
        here = place.here()
        ended = place.run(here, name, limits=[("RLIMIT_NOFILE", number)])
        yield row(name, f"ulimit -n {number}", ended, here)
    for number in memory:
        here = place.here()
        ended = place.run(here, name, limits=[("RLIMIT_AS", libraries + number * MIB)])
        yield row(name, f"ulimit -v, {number} MiB above the libraries", ended, here)


def together(place: Place, name: str) -> Iterator[Row]:
    """Two of the same command in one folder."""
    here = place.here()
    both = [place.start(here, name) for _ in range(2)]
    ended = [running.wait() for running in both]
    for end in ended:
        yield row(name, "two in one folder", end, here)


def real_process(
    place: Place,
    name: str,
    *more: object,
    before: str = "",
    prefix: tuple[str, ...] = (),
    seconds: float = 240,
    here: Path | None = None,
    words: tuple | None = None,
    **env: str,
) -> tuple[Ended, Path]:
    """Run a command as users do, in a process of its own.

    Args:
        place: With its words.
        name: Of the command.
        more: Words at the end.
        before: Python that runs first, as a sitecustomize would.
        prefix: What starts Python.
        seconds: After which it is killed.
        here: Its working folder.
        words: Instead of the command's own.
        env: Environment variables that change.
    """
    here = here or place.here()
    command, *own = place.jobs[name]
    module = MODULES.get(command, command)
    more_path = here / ".site"
    more_path.mkdir(exist_ok=True)
    (more_path / "sitecustomize.py").write_text(before)
    start = time.monotonic()
    try:
        run = subprocess.run(
            [*prefix, sys.executable, "-m", module, *map(str, words or own), *map(str, more)],
            cwd=here,
            env={**environment(here), "PYTHONPATH": f"{more_path}:{ROOT}", **env},
            capture_output=True,
            timeout=seconds,
        )
        code, text = run.returncode, run.stdout + run.stderr
    except subprocess.TimeoutExpired as error:
        code, text = TOO_LONG, (error.stdout or b"") + (error.stderr or b"")
    shown = " ".join(text.decode(errors="replace").split())
    return Ended(code, shown, 0, time.monotonic() - start), here


def environments(place: Place, name: str) -> Iterator[Row]:
    """Real processes: clock, locale, HOME, working folder, streams."""
    backwards = "import time; t = iter(range(2 * 10**9, 0, -1)); time.time = lambda: float(next(t))"
    ended, here = real_process(place, name, before=backwards)
    yield row(name, "clock goes backwards", ended, here)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended, here = real_process(place, name, **locale)
    yield row(name, "locale C", ended, here)
    nowhere = {"HOME": "/proc", "VGG_DEPLOY_CACHE": "", "XDG_CACHE_HOME": ""}
    ended, here = real_process(place, name, **nowhere)
    yield row(name, "HOME cannot be written", ended, here)
    for fault, shell in (
        (
            "working folder deleted",
            'rmdir "$PWD/gone" 2>/dev/null; mkdir gone; cd gone; rmdir ../gone',
        ),
        ("standard output full", "exec > /dev/full"),
        ("standard output closed", "exec >&-"),
    ):
        prefix = ("bash", "-c", f'{shell}; exec "$@"', "bash")
        ended, here = real_process(place, name, prefix=prefix)
        yield row(name, fault, ended, here)
    pipe = ("bash", "-c", 'exec "$@" > >(exec true)', "bash")
    ended, here = real_process(place, name, prefix=pipe)
    found = row(name, "pipe closed by its reader", ended, here, "none needed")
    quiet = ended.code == 141 and not ended.output.count("Error: ")
    yield found._replace(left="") if quiet and found.left == "no sentence" else found


def from_the_future(place: Place, name: str) -> Iterator[Row]:
    """The same command over its own files, whose times lie ten years ahead."""
    here = place.here()
    place.run(here, name)
    ahead = time.time() + 10 * 365 * 86400
    for path in here.rglob("*"):
        os.utime(path, (ahead, ahead))
    yield row(name, "files from the future", place.again(here, name), here)


def shared_memory(place: Place, size: str) -> Iterator[Row]:
    """A small /dev/shm, with the paper's batch of 256 crops of 224 pixels, and under bench."""
    prefix = ("unshare", "-m", "bash", "-c")
    prefix += (f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "bash")
    with tempfile.TemporaryDirectory() as name:  # a place may lie in the /dev/shm that is hidden
        root, rng = Path(name), np.random.default_rng(3)
        for split, count in (("train", 64), ("val", 2)):
            for label in CLASSES:
                (root / "photos" / split / label).mkdir(parents=True)
                for i in range(count):
                    photo = photo_of(label, rng)
                    photo.save(root / "photos" / split / label / f"{i}.png")
        words = (
            *("--arch", "A", "--width", "0.03125", "--init", "he", "--data", root / "photos"),
            *("--crop", 224, "--side", 224, "--batch", 256, "--epochs", 1, "--lr", "0.001"),
            *("--workers", 2, "--threads", 1, "--out", "run"),
        )
        (root / "here").mkdir()
        how = {"prefix": prefix, "here": root / "here", "seconds": 600}
        ended, here = real_process(place, "train", words=words, **how)
        yield row("train", f"/dev/shm of {size}, batch 256 x 224", ended, here)
        words = (root / "here" / "run" / "best.pt", "--data", root / "photos", "--scales", 224)
        words += ("--protocols", "dense", "--measure", "accuracy", "--threads", 2)
        ended, here = real_process(place, "bench", words=words, **how)
        yield row("bench", f"/dev/shm of {size}, whole images", ended, here)


def decoder(place: Place, signum: signal.Signals) -> Row:
    """A decoding process of bench is killed or stopped."""
    here = place.here()
    many = place.root / "many" / "val" / CLASSES[0]
    if not many.exists():
        many.mkdir(parents=True)
        for other in CLASSES[1:]:
            (many.parent / other).mkdir()
            shutil.copy(place.root / "photos" / "val" / other / "0.png", many.parent / other)
        image = photo_of(CLASSES[0], np.random.default_rng(0)).resize((2000, 2000))
        image.save(many / "0.png")
        for i in range(1, 300):
            os.symlink("0.png", many / f"{i}.png")
    given = ["--data", place.root / "many", "--scales", "32", "--protocols", "centre"]
    given += ["--measure", "accuracy", "--threads", 2]
    running = place.commands.start(here, "bench", place.root / "A.pt", *given)
    child = child_of(running)
    os.kill(child, signum)
    return row("bench", f"{signum.name} to a decoder", running.wait(700), here)


def loader(place: Place, signum: signal.Signals) -> Iterator[Row]:
    """A loader process of a training is killed or stopped; the run is then resumed."""
    here = place.here()
    words = ("--epochs", 2000, "--step-patience", 10, "--checkpoint-every", 1)
    command, *own = place.jobs["train"]
    running = place.commands.start(here, command, *own, *words)
    until(lambda: (here / "run" / "last.pt").exists(), 240)
    os.kill(child_of(running), signum)
    yield row("train", f"{signum.name} to a loader process", running.wait(), here)
    resumed = place.commands.start(here, "train", "--resume", "run", "--threads", 1)
    until(lambda: "Resuming" in resumed.log.read_text(), 240)
    os.kill(resumed.pid, signal.SIGTERM)
    yield row("train", f"--resume after {signum.name} to a loader process", resumed.wait(), here)


def rank(place: Place, signum: signal.Signals) -> Row:
    """One of two processes of torchrun is killed or stopped."""
    here = place.here()
    _, *own = place.jobs["train"]
    words = (*own, "--epochs", 5000, "--step-patience", 10, "--checkpoint-every", 20)
    launch = ("--nproc-per-node", 2, "--rdzv-backend", "c10d")
    launch += ("--rdzv-endpoint", f"127.0.0.1:{_free_port()}")
    log = here / "torchrun.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            list(map(str, [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "train"]))
            + list(map(str, words)),
            cwd=here,
            env={**environment(here), "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        until(lambda: (here / "run" / "last.pt").exists(), 240)
        os.kill(_rank_one(process.pid), signum)
        code = process.wait(150)
    except subprocess.TimeoutExpired:
        code = TOO_LONG
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    own_words = [line for line in log.read_text().splitlines() if line.startswith(("Error: ", "["))]
    text = " ".join(line for line in own_words if line.startswith("Error: "))
    return row("train by torchrun", f"{signum.name} to a process", Ended(code, text, 0, 0), here)


def child_of(running) -> int:
    """A worker process of a command, when there is one."""
    found: list[int] = []
    until(lambda: found.extend(running.children()) or found or not in_session(running.pid), 240)
    return found[-1]


def _rank_one(pid: int) -> int:
    """The process that torchrun made rank 1."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"\0RANK=1\0" in (path / "environ").read_bytes():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError("no rank 1")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
