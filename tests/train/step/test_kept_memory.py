"""Memory that a training keeps between updates. Oracle: the system's count of pages it filled."""

import subprocess
import sys

import pytest

from train.step.kept_memory import keep_freed_memory

PROGRAM = """
import resource
import numpy as np
from train.step.kept_memory import keep_freed_memory, return_freed_memory

SIZE = 200 * 2**20  # bytes

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(SIZE, np.uint8)[::4096] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

print(pages(), pages())
keep_freed_memory()
pages()
print(pages(), resident() > SIZE)
return_freed_memory()
print(pages(), resident() < SIZE)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is the library of Linux")
def test_freed_memory_is_used_again_without_the_system():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    first, kept, returned = (line.split() for line in ended.stdout.splitlines())
    whole = 200 * 2**20 // 4096
    # numpy asks for huge pages, of which the system may have some
    assert int(first[1]) > 50, ended.stdout
    assert int(kept[0]) < min(whole, int(first[1])) / 10 and kept[1] == "True", ended.stdout
    assert int(returned[0]) > 10 * int(kept[0]) and returned[1] == "True", ended.stdout


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
