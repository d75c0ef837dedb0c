"""Runs `python -m bench` in this process and notes the time of its stages: bench_stages.py WORD...

Also the time in calls of nets. The words are those of the command line. The package `bench` is the
first one on PYTHONPATH, so that an older one can be measured beside this one.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Clock = dict[str, float]


def now() -> Clock:
    """Seconds since the clock's start, and of the processor: of this process, of ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": time.perf_counter(),
        "cpu_s": time.process_time() + children.ru_utime + children.ru_stime,
    }


def main() -> None:
    start = now() | {"cpu_s": 0.0}  # the interpreter's own start counts
    import bench.accuracy.measure as measuring
    import bench.command as command
    from bench.cli import main as vgg_bench
    from bench.speed.first_calls import ShapeLog

    at = {"imported": now()}

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result = function(*given, **named)
            at[name] = now()
            return result

        return call

    in_nets = {"wall_s": 0.0, "cpu_s": 0.0}
    score = ShapeLog.__call__

    def timed(log: ShapeLog, images: Any) -> Any:
        before = now()
        scores = score(log, images)
        for unit, value in now().items():
            in_nets[unit] += value - before[unit]
        return scores

    ShapeLog.__call__ = timed
    command.open_inputs = noted("loaded", command.open_inputs)
    measuring.fill_cells = noted("scored", measuring.fill_cells)
    sys.argv = ["vgg-bench", *sys.argv[1:]]
    try:
        code = vgg_bench(standalone_mode=False) or 0
    except SystemExit as end:
        code = end.code
    except Exception as error:  # an undecided or failed gate is a result
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
    at["ended"] = now()
    since = {name: {unit: t[unit] - start[unit] for unit in t} for name, t in at.items()}
    modules = [name for name in ("torch", "onnx", "onnxruntime", "pandas") if name in sys.modules]
    found = {"code": code, "since_start": since, "in_nets": in_nets, "modules": modules}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
