"""Runs all GPU measurements within one time limit.

    python benchmarks/gpu_session.py --out FOLDER

For a GPU that is available for minutes only. Steps run in order of usefulness, each in processes of
its own with a time limit. At the limit they are ended as a group, and the next step starts. The
results so far are in FOLDER after every step: summary.md, the CSV files and session.log. Weights,
exports and images are kept in --work, so that a second call with other --steps uses them.

With --rehearsal everything runs on the CPU with thin nets and few images.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
from result_tables import markdown_table

ROOT = Path(__file__).parent.parent
LOG_BYTES = 3 * 2**20  # kept of one step's log
TAIL_LINES = 30  # of a log in the summary
SHORTEST_S = 10.0  # less time than this is not enough to start a step
PATIENCE_S = 5.0  # between SIGTERM and SIGKILL
RESULTS = ("train_step", "gpu_speed", "bench_from_files", "first_calls", "train_profile")
DESCRIBE = """
import json
from bench.results.environment import describe_environment
from vgg_deploy.machine import available_cores
print(json.dumps(describe_environment(available_cores()), indent=2))
import torch
print("cuDNN", torch.backends.cudnn.version(), "GPU", torch.cuda.is_available())
import onnxruntime
onnxruntime.preload_dlls()
print("onnxruntime", onnxruntime.__version__, onnxruntime.get_available_providers())
"""


@dataclass(frozen=True)
class Step:
    """Commands that run one after the other, and the seconds they may take together."""

    name: str
    limit_s: float
    commands: list[list[str]]
    beside: list[list[str]] = field(default_factory=list)  # run at the same time as these


@dataclass(frozen=True)
class Outcome:
    """How a step went."""

    name: str
    limit_s: float
    spent_s: float
    result: str


def script(name: str, *options: object) -> list[str]:
    """The command of a script beside this one."""
    return [sys.executable, str(ROOT / "benchmarks" / name), *map(str, options)]


def contract_tests(device: str) -> list[str]:
    """The runtimes' contract tests on this device; warnings of newer packages are no failures."""
    selected = "cuda or page_locked" if device == "cuda" else "cpu- and not compile"
    return [
        *(sys.executable, "-m", "pytest", "-v", "--no-header", "--tb=short", "-rs"),
        *("-W", "default"),
        *("-p", "no:cacheprovider"),
        *("-k", selected),
        str(ROOT / "tests/vgg_deploy/runtimes/test_runtimes.py"),
    ]


def steps_for(rehearsal: bool, work: Path) -> list[Step]:
    """All steps, the most useful first."""
    device = "cpu" if rehearsal else "cuda"
    width, archs = (0.0625, "D") if rehearsal else (1.0, "D,A")
    images, few = (24, 12) if rehearsal else (2000, 500)
    kept = ("--kept", work / "kept")
    out = ("--device", device, "--out", work)
    update = ("--archs", "D", "--rounds", 5, "--calls", 3)
    profiled: tuple[object, ...] = ("--ways", "ours;ours, pool first")
    speed: tuple[object, ...] = ()
    files: tuple[object, ...] = ("--images", images, "--few", few)
    first: tuple[object, ...] = ()
    if rehearsal:
        small = ("--width", width, "--crop", 64, "--batch", 4, "--precisions", "bf16")
        ways = "ours;ours, padded input, pool first;ours, pool first, fused ReLU"
        update = ("--archs", "D", "--rounds", 1, "--calls", 1, *small, "--ways", ways)
        profiled = (*small, "--ways", "ours, pool first")
        speed = ("--sides", 256, "--batches", 8, "--ways", "eager, pool;ONNX Runtime")
        files = (*files, "--batch", 4)
        first = ("--batch", 1, "--ways", "PyTorch;ONNX Runtime")
    nets = ("--archs", archs, "--width", width)
    prepare = [
        script("gpu_speed.py", *nets, *kept, *out, "--prepare"),
        script("bench_from_files.py", *kept, *files, *out, "--prepare"),
    ]
    describe = [[sys.executable, "-c", DESCRIBE]]
    if not rehearsal:
        describe += [["nvidia-smi"], ["nvidia-smi", "-q", "-d", "CLOCK,POWER,PERFORMANCE"]]
    return [
        Step("environment", 30, describe),
        Step("contract", 100, [contract_tests(device)], beside=prepare),
        Step("train", 160, [script("train_step.py", *update, *out)]),
        Step("inference", 140, [script("gpu_speed.py", *nets, *kept, *out, *speed)]),
        Step("bench", 80, [script("bench_from_files.py", *kept, *files, *out)]),
        Step("first", 60, [script("first_calls.py", *kept, *first, *out)]),
        Step(
            "profile",
            40,
            [script("train_step.py", "--archs", "D", *profiled, *out, "--profile")],
        ),
    ]


def end_group(process: subprocess.Popen) -> None:
    """End a process and all that it started in its session."""
    for what, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    # children that ignored SIGTERM while their parent did not
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_step(step: Step, limit_s: float, log: Path) -> Outcome:
    """Run a step's commands until they are done or the time is over.

    Args:
        step: The step.
        limit_s: Seconds for all its commands.
        log: File of their output.
    """
    start = time.monotonic()
    results = []
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }
    beside_log = log.with_name(f"{log.stem}-beside.log")
    with log.open("wb") as file, beside_log.open("wb") as beside_file:

        def start_process(command: list[str], to) -> subprocess.Popen | None:
            to.write(f"$ {' '.join(command)}\n".encode())
            to.flush()
            try:
                return subprocess.Popen(
                    command,
                    stdout=to,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    cwd=ROOT,
                    start_new_session=True,
                )
            except OSError as error:
                results.append(f"{Path(command[0]).name}: {error.strerror}")
                return None

        def finish(process: subprocess.Popen | None) -> None:
            if process is None:
                return
            try:
                code = process.wait(max(0.0, limit_s - (time.monotonic() - start)))
                if code:
                    results.append(f"exit {code}")
            except subprocess.TimeoutExpired:
                results.append(f"ended after {limit_s:.0f} s")
            end_group(process)  # also what a finished process left running

        others = [start_process(command, beside_file) for command in step.beside]
        for command in step.commands:
            if time.monotonic() - start < limit_s:
                finish(start_process(command, file))
            else:
                results.append("not started")
        for other in others:
            finish(other)
    with log.open("ab") as file:
        file.write(beside_log.read_bytes()[-LOG_BYTES:])
    beside_log.unlink()
    return Outcome(step.name, limit_s, time.monotonic() - start, "; ".join(results) or "done")


def collect(work: Path, out: Path, outcomes: list[Outcome], started: str) -> None:
    """Write the results so far to `out`: at most eight files."""
    lines = [f"# GPU session of {started}\n", f"`{' '.join([sys.executable, *sys.argv])}`\n"]
    rows = [[o.name, f"{o.spent_s:.0f}", f"{o.limit_s:.0f}", o.result] for o in outcomes]
    lines.append(markdown_table(["step", "seconds", "limit", "result"], rows))
    for name in RESULTS:
        for table in sorted(work.glob(f"{name}_*.csv")):
            shutil.copyfile(table, out / f"{name}.csv")
        for text in sorted(work.glob(f"{name}_*.md")):
            lines.append("\n#" + text.read_text().split("\n```json")[0])
    logs = []
    for outcome in outcomes:
        content = (work / f"{outcome.name}.log").read_bytes()[-LOG_BYTES:]
        logs.append(f"\n===== {outcome.name}: {outcome.result}\n".encode() + content)
        if outcome.name in ("environment", "contract") or outcome.result != "done":
            shown = content.decode(errors="replace").splitlines()
            kept = shown if outcome.name == "environment" else shown[-TAIL_LINES:]
            lines.append(f"\n## Log of {outcome.name}\n\n```\n" + "\n".join(kept) + "\n```")
    (out / "summary.md").write_text("\n".join(lines) + "\n")
    (out / "session.log").write_bytes(b"".join(logs))


def chosen_steps(text: str | None, steps: list[Step]) -> list[Step]:
    """The steps that --steps names, in their usual order.

    Raises:
        click.BadParameter: If a name is unknown.
    """
    known = [step.name for step in steps]
    names = known if text is None else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not a step; choose from {', '.join(known)}", param_hint="--steps"
            )
    return [step for step in steps if step.name in names]


@click.command(context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results.")
@click.option(
    "--work",
    default="/tmp/gpu_session",
    type=click.Path(path_type=Path),
    help="Folder of weights, exports, images and logs, for the next run.",
)
@click.option("--steps", help="Only these, comma-separated.  [default: all]")
@click.option("--limit", default=450.0, help="Seconds of all steps together.")
@click.option("--rehearsal", is_flag=True, help="Thin nets and few images on the CPU.")
def main(out: Path, work: Path, steps: str | None, limit: float, rehearsal: bool) -> None:
    """Run the steps; ends with 1 if one of them was not done."""
    start = time.monotonic()
    started = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    selected = chosen_steps(steps, steps_for(rehearsal, work))
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for step in selected:
        left_s = limit - (time.monotonic() - start)
        log = work / f"{step.name}.log"
        if left_s < SHORTEST_S:
            log.write_text("")
            outcomes.append(Outcome(step.name, 0, 0, f"skipped, {left_s:.0f} s left"))
        else:
            outcomes.append(run_step(step, min(step.limit_s, left_s - PATIENCE_S), log))
        print(json.dumps(outcomes[-1].__dict__), flush=True)
        collect(work, out, outcomes, started)
    print((out / "summary.md").read_text()[-10000:])
    sys.exit(any(outcome.result != "done" for outcome in outcomes))


if __name__ == "__main__":
    main()
