"""Processes that ask for one lock at the same time: one at a time has it.

Oracle: a counter in a file, which loses counts if two processes are between reading and writing.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES, TURNS = 4, 25
COUNTER = """
import sys
from pathlib import Path
from {module} import {lock}
counter = Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    with {lock}(Path(sys.argv[1])):
        count = int(counter.read_text())
        counter.write_text(str(count + 1))
"""
LOCKS = {
    "a file that stays": ("vgg_deploy.locks", "waiting_lock", ".lock"),
    "a file that its owner removes": ("bench.results.results_folder", "_alone", "."),
}


@pytest.mark.parametrize("kind", LOCKS)
def test_one_at_a_time_has_the_lock(tmp_path, kind):
    module, lock, name = LOCKS[kind]
    counter = tmp_path / "counter"
    counter.write_text("0")
    text = COUNTER.format(module=module, lock=lock)
    words = [sys.executable, "-c", text, str(tmp_path / name), str(counter), str(TURNS)]
    started = [
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            assert process.wait(60) == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert int(counter.read_text()) == PROCESSES * TURNS
