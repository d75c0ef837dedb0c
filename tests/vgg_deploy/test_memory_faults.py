"""Errors that mean that memory ran out: real ones, of a process with a limit."""

import subprocess
import sys
import tracemalloc

import pytest

from vgg_deploy.memory_faults import ADVICE, memory_ran_out
from vgg_deploy.regular_files import read_regular

LIMIT = """
import resource
from vgg_deploy.command_line import Command
{imports}
import click

@click.command(cls=Command)
def main():
    kept = resource.getrlimit(resource.RLIMIT_AS)[1]
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, kept))
    {work}

main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits addresses as Linux does")
@pytest.mark.parametrize(
    ("imports", "work"),
    [
        ("", "bytearray(2**30)"),
        ("import torch", "torch.zeros(2**30)"),
        ("import numpy", "numpy.ones(2**30)"),
        ("import mmap", "mmap.mmap(-1, 2**30)"),
    ],
)
def test_it_is_told_in_one_sentence(imports, work):
    code = LIMIT.format(imports=imports, work=work)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr == f"Error: memory ran out; {ADVICE}\n"


def test_other_errors_do_not_mean_it():
    assert not memory_ran_out(RuntimeError("shapes do not fit"))
    assert not memory_ran_out(OSError(28, "No space left on device"))
    caused = RuntimeError("wrapped")
    caused.__cause__ = MemoryError()
    assert memory_ran_out(caused)


def test_a_small_file_takes_little_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1000)
    tracemalloc.start()
    assert read_regular(tmp_path / "file", 2**28) == b"x" * 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
