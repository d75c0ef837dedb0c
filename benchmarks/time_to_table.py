r"""Times the bench from image files to its table, of this code and of an older one, in turn.

    python benchmarks/time_to_table.py --part table --model D.int8-cpu.onnx --data PHOTOS
    python benchmarks/time_to_table.py --part gate --model D.fp32.onnx --model D.int8-cpu.onnx \
        --data FOLDER
    python benchmarks/time_to_table.py --part peers --model D.fp32.ncnn.param \
        --model D.int8-cpu.onnx --normalised D.fp32.onnx --weights best.pt --data FOLDER

- table: one model on photos of their own sizes, dense, nothing stored. `table s` begins when models
  are loaded and ends when every file is written. The bound is the slower of two parts measured
  alone, decoding and the net over the same batches. `fixed CPU` is what the processor does from
  loaded models to the end of a run with few photos, beyond the net's calls and decoding.
- gate: two models with a limit, all posteriors stored: the whole process.
- peers: the centre crop beside timm's validate.py and onnx_validate.py, as against_peers.py, and
  all these nets alone, over the same crops in memory.

Every measurement is a process of its own. Its row has the cores that others used meanwhile, by
/proc/stat; medians are of the rows where that is at most QUIET cores. Each call adds rows to
time_to_table_samples.csv and writes time_to_table.md anew.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import pandas as pd
from alone import run_alone
from peer_comparison.evaluations import Evaluation
from peer_comparison.prepare import Settings, write_photos
from peer_comparison.rounds import evaluate
from result_rows import markdown_table
from result_tables import environment_block, write_csv
from table_goals import COLUMNS as GOAL_COLUMNS
from table_goals import goal_rows

from bench.results.commit import commit_of
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores, cpu_instructions, cpu_model

ROOT = Path(__file__).resolve().parents[1]
QUIET = 0.1  # cores that others may use
TICKS = 100  # of /proc/stat, per second
PEERS = {  # by their name: script, key of the file, how crop_net.py runs it
    "timm validate": ("timm_validate", "weights", "timm"),
    "timm onnx_validate": ("timm_onnx_validate", "normalised", "onnxruntime"),
}
BATCH, NET_CALLS = 16, 3
FEW, SHORT = 8, ", few photos"  # of a run that shows the fixed cost, and its name's end
NET = "net of "  # before the name of an evaluation
COLUMNS = {
    "part": "part",
    "model": "model",
    "what": "what",
    "images": "images:.0f",
    "s": "s:.2f",
    "of rounds": "s_range",
    "CPU s": "cpu_s:.2f",
    "of rounds (CPU)": "cpu_s_range",
    "ratio": "ratio:.3f",
    "of rounds (ratio)": "ratio_range",
    "top-1 error %": "top1_error_pct:.1f",
    "best class as timm": "same_best_class:.0f",
    "rounds": "rounds:.0f",
    "disturbed": "disturbed:.0f",
    "of commits": "commits",
}


def busy_s() -> float:
    """Seconds that all cores together have worked."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, first[:7])
    return (user + nice + system + irq + softirq) / TICKS


def beside_others(measure: Callable[[], dict]) -> dict:
    """A measurement, and the cores that other processes used meanwhile."""
    usage = children_cpu_s()
    start, busy = time.perf_counter(), busy_s()
    row = measure()
    own = children_cpu_s() - usage
    wall = time.perf_counter() - start
    return {**row, "process_cpu_s": own, "others_cores": max(0.0, busy_s() - busy - own) / wall}


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stages(code: Path, words: list[str]) -> dict:
    """Stages of one run of the command, by the code in a folder."""
    paths = os.pathsep.join([str(code), str(ROOT / "benchmarks")])
    command = [sys.executable, "-m", "alone.bench_stages", *words]
    environment = {**os.environ, "PYTHONPATH": paths}
    # Python's own first place is the working directory
    done = subprocess.run(command, capture_output=True, text=True, cwd=code, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found["since_start"], "in_nets": found["in_nets"]}


def bench_words(models: tuple[Path, ...], data: Path, images: int, side: int) -> list[str]:
    named = ["--data", str(data), "--images", str(images), "--scales", str(side)]
    return [*map(str, models), *named, "--no-flips", "--measure", "accuracy"]


def table_rows(code: dict[str, Path], model: Path, data: Path, images: int, side: int) -> list:
    """One round: the parts alone, then the command by each code."""
    threads = available_cores()
    rows = []

    def parts() -> dict:
        return run_alone("bench_parts", model, data, images, side, BATCH, threads)

    measured = beside_others(parts)
    for name in ("decode", "net_once", "net"):
        row = {"what": name, "s": measured[name]["wall_s"], "cpu_s": measured[name]["cpu_s"]}
        rows.append({**row, "others_cores": measured["others_cores"]})
    for what, folder in code.items():
        for name, count in ((what, images), (what + SHORT, FEW)):
            row = fresh_run(folder, bench_words((model,), data, count, side))
            rows.append({"what": name, **row})
    return rows


def fresh_run(code: Path, words: list[str]) -> dict:
    """Time of a run with nothing stored, from loaded models to the end, and that of the net."""
    with tempfile.TemporaryDirectory() as scratch:
        stored = ["--no-labels", "--cells", f"{scratch}/cells", "--out", f"{scratch}/out"]
        run = beside_others(lambda: {"at": stages(code, [*words, *stored])})
    loaded, ended, net = (run["at"][name] for name in ("loaded", "ended", "in_nets"))
    return {
        "s": ended["wall_s"] - loaded["wall_s"],
        "cpu_s": ended["cpu_s"] - loaded["cpu_s"],
        "net_s": net["wall_s"],
        "net_cpu_s": net["cpu_s"],
        "others_cores": run["others_cores"],
    }


def gate_rows(
    code: dict[str, Path], models: tuple[Path, ...], data: Path, images: int, kept: Path
) -> list:
    """One round of wholly stored runs; the cells of each code are filled first."""
    rows = []
    for what, folder in code.items():
        words = [*bench_words(models, data, images, 256), "--max-top1-drop", "5"]
        words += ["--undecided", "pass", "--cells", str(kept / what), "--out", str(kept / "out")]
        if not (kept / what).is_dir():
            stages(folder, words)
        run = beside_others(lambda w=words, f=folder: stages(f, w))
        row = {"s": run["ended"]["wall_s"], "cpu_s": run["process_cpu_s"]}
        rows.append({"what": what, **row, "others_cores": run["others_cores"]})
    return rows


def peer_rows(
    models: tuple[Path, ...], weights: Path, normalised: Path, photos: Path, images: int
) -> list:
    """One round of the crop: our files, then timm's programs."""
    files = {"weights": weights, "normalised": normalised}
    files |= {model.name: model for model in models}
    threads = available_cores()
    settings = Settings(files, photos, 256, BATCH, threads, 1)
    evaluations = [Evaluation(model.name, "ours", model.name) for model in models]
    evaluations += [Evaluation(name, *way[:2]) for name, way in PEERS.items()]
    rows = []
    for one in evaluations:
        run = beside_others(lambda e=one: evaluate("crop", e, settings))
        row = {"what": one.name, "s": run["seconds"], "top1_error_pct": run["top1_error_pct"]}
        row["predictions"] = " ".join(map(str, run["predictions"]))
        rows.append({**row, "cpu_s": run["process_cpu_s"], "others_cores": run["others_cores"]})
    for one in evaluations:
        way = PEERS[one.name][2] if one.name in PEERS else "ours"
        given = (way, files[one.file], BATCH, NET_CALLS, threads)
        run = beside_others(lambda given=given: run_alone("crop_net", *given))
        row = {"what": NET + one.name, "s": run["wall_s"] * images / run["images"]}
        rows.append({**row, "cpu_s": run["process_cpu_s"], "others_cores": run["others_cores"]})
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--part", required=True, type=click.Choice(("table", "gate", "peers")))
@click.option("--model", "models", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--before", type=click.Path(path_type=Path), help="Folder of older code.")
@click.option("--weights", type=click.Path(path_type=Path), help="Of timm's net: a checkpoint.")
@click.option(
    "--normalised", type=click.Path(path_type=Path), help="For onnx_validate: --input normalised."
)
@click.option("--images", default=200)
@click.option("--side", default=256, help="Q, pixels.")
@click.option("--rounds", default=3)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    part: str,
    models: tuple[Path, ...],
    data: Path,
    before: Path | None,
    weights: Path | None,
    normalised: Path | None,
    images: int,
    side: int,
    rounds: int,
    out: Path,
) -> None:
    """Add to time_to_table_samples.csv, and write time_to_table.md."""
    code = {**({"before": before.absolute()} if before else {}), "now": ROOT}
    models, data = tuple(model.absolute() for model in models), data.absolute()
    path = out / "time_to_table_samples.csv"
    name = " + ".join(model.name for model in models) if part == "gate" else models[0].name
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch)
        if part == "peers":
            name = "crop"
            photos = write_photos(open_dataset(data, "val").subset(images), None, kept / "photos")
        for _ in range(rounds):
            if part == "table":
                rows = table_rows(code, models[0], data, images, side)
            elif part == "gate":
                rows = gate_rows(code, models, data, images, kept)
            else:
                if weights is None or normalised is None:
                    raise click.UsageError("--part peers needs --weights and --normalised")
                rows = peer_rows(models, weights, normalised, photos, images)
            old = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["part", "model"])
            earlier = old[(old.part == part) & (old.model == name)]
            number = int(earlier["round"].max()) + 1 if len(earlier) else 0
            common = {"part": part, "model": name, "images": images, "round": number}
            commit = commit_of(ROOT)
            common["commit"] = commit.shown if commit else ""
            added = pd.DataFrame([{**common, **row} for row in rows])
            print(added.drop(columns="predictions", errors="ignore").to_string(), flush=True)
            parts = [old, added] if len(old) else [added]
            write_csv(pd.concat(parts, ignore_index=True), path)
    write_text(out / "time_to_table.md", report(pd.read_csv(path)))


def report(samples: pd.DataFrame) -> str:
    """The text of time_to_table.md."""
    rows = []
    for (part, model), own in samples.groupby(["part", "model"], sort=False):
        rows += part_rows(str(part), str(model), own)
    return (
        f"# Time to a table\n\n{cpu_model()} ({', '.join(cpu_instructions())}), "
        f"{available_cores()} cores. Medians, and from the smallest to the largest round; rounds "
        f"beside which others used more than {QUIET} cores are left out and counted as disturbed. "
        "Ratio of a table: the bound (the slower of decode and net) over it. Of a gate: CPU time "
        "before over now. Of a peer: its time over that of each file of ours.\n\n"
        "The ceiling of a table is the bound over the net and decoding on the same cores: the net "
        "uses all of them, so decoding takes time from it. The ceiling of a peer is its net alone "
        "over ours alone, on the same crops in memory.\n\n"
        f"{markdown_table(goal_rows(rows, list(PEERS), NET), GOAL_COLUMNS)}\n"
        f"{markdown_table(rows, COLUMNS)}\n{environment_block(available_cores())}"
    )


def part_rows(part: str, model: str, own: pd.DataFrame) -> list[dict]:
    """The table's rows of one part and model."""
    calm = own[own.others_cores <= QUIET]
    disturbed = (own.others_cores > QUIET).groupby(own.what).sum()
    wall = calm.pivot_table(index=["images", "round"], columns="what", values="s", aggfunc="last")
    cpu = calm.pivot_table(
        index=["images", "round"], columns="what", values="cpu_s", aggfunc="last"
    )
    rows = []
    for what in dict.fromkeys(own.what):
        images = FEW if what.endswith(SHORT) else own.images.iloc[-1]
        row = {"part": part, "model": model, "what": what, "images": images}
        if "commit" in own:
            row["commits"] = ", ".join(dict.fromkeys(own[own.what == what].commit.dropna()))
        row |= {"rounds": int((calm.what == what).sum()), "disturbed": int(disturbed[what])}
        if what in wall:
            row |= summarised("s", wall[what]) | summarised("cpu_s", cpu[what])
        rows.append(row | answers(own, str(what)))
    ratios: dict[str, pd.Series] = {}
    if part == "table" and {"net", "decode"} <= set(wall):
        bound = wall[["net", "decode"]].max(axis=1)
        ratios = {f"bound over {w}": bound / wall[w] for w in ("before", "now") if w in wall}
        if {"before", "now"} <= set(wall):
            ratios["before over now"] = wall["before"] / wall["now"]
        ratios["ceiling"] = bound / (wall["net"] + cpu["decode"] / available_cores())
        beyond = calm.assign(cpu_s=calm.cpu_s - calm.net_cpu_s).pivot_table(
            index=["images", "round"], columns="what", values="cpu_s", aggfunc="last"
        )
        for which in ("before", "now"):
            if which + SHORT in beyond:
                fixed = beyond[which + SHORT] - cpu["decode"] * FEW / own.images.iloc[-1]
                row = {"part": part, "model": model, "what": f"fixed CPU, {which}"}
                rows.append({**row, **summarised("cpu_s", fixed)})
    if part == "gate" and {"before", "now"} <= set(cpu):
        ratios = {"CPU before over now": cpu["before"] / cpu["now"]}
    if part == "peers":
        ours = [w for w in wall if w not in PEERS and not w.startswith(NET)]
        pairs = [(p, o) for p in PEERS for o in ours]
        pairs += [(NET + p, NET + o) for p, o in pairs]
        ratios = {f"{p} over {o}": wall[p] / wall[o] for p, o in pairs if {p, o} <= set(wall)}
    for what, ratio in ratios.items():
        rows.append({"part": part, "model": model, "what": what, **summarised("ratio", ratio)})
    return rows


def answers(own: pd.DataFrame, what: str) -> dict[str, object]:
    """Errors of an evaluation of labelled photos, and how many classes are the first peer's."""
    if "predictions" not in own:
        return {}
    best = own.dropna(subset="predictions").groupby("what").predictions.last().str.split()
    if what not in best:
        return {}
    pairs = zip(best[what], best[next(iter(PEERS))], strict=True)
    error = own[own.what == what].top1_error_pct.iloc[-1]
    return {"top1_error_pct": error, "same_best_class": sum(a == b for a, b in pairs)}


def summarised(name: str, values: pd.Series) -> dict[str, object]:
    """Median and range as two columns."""
    values = values.dropna()
    if values.empty:
        return {}
    low, high = values.min(), values.max()
    shown = {name: values.median(), f"{name}_range": f"{low:.3g}-{high:.3g}"}
    return {**shown, f"{name}_low": low, f"{name}_high": high}


if __name__ == "__main__":
    main()
