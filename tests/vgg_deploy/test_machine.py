"""Facts about the machine, also where the system does not report them."""

import json
import os
import subprocess
import sys

import pytest
import torch

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


def test_torch_is_described_without_importing_it():
    """Oracle: PyTorch."""
    code = "import sys; from vgg_deploy.machine import cuda_of_torch, gpu_names\n"
    code += "found = cuda_of_torch(), gpu_names(); import json\n"
    code += "print(json.dumps([*found, 'torch' in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cuda, gpus, imported = json.loads(done.stdout)
    seen = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    assert (cuda, gpus) == (torch.version.cuda, seen)
    assert machine.cuda_of_torch() == torch.version.cuda and machine.gpu_names() == seen
    assert not imported or machine._has_driver()
