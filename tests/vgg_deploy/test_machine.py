"""Facts about the machine, also where the system does not report them."""

import os
import sys

import pytest

from vgg_deploy import machine


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc/meminfo")
def test_the_size_of_the_memory_is_that_of_the_kernel():
    """Oracle: /proc/meminfo, in KiB."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        kilobytes = int(file.readline().split()[1])
    assert machine.total_memory_bytes() == 1024 * kilobytes


def test_a_system_without_the_linux_calls_is_described(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert machine.allowed_cores() is None
    assert machine.available_cores() == os.cpu_count()
    if sys.platform != "win32":
        assert machine.total_memory_bytes() is None
