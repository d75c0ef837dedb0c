"""Starts a Triton server on loopback, from an environment that `.ci/server` made."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120  # until all models are ready
STOP_SECONDS = 30
PATHS = (
    "import sysconfig; print(sysconfig.get_path('platlib')); "
    "print(sysconfig.get_config_var('LIBDIR'))"
)


@dataclass(frozen=True)
class Server:
    """A server that is ready.

    Attributes:
        http: Address, such as "127.0.0.1:40001".
        grpc: Address.
        process: Its process.
        log: Its output.
        started_in: Seconds from the start of the process until all models were ready.
    """

    http: str
    grpc: str
    process: subprocess.Popen
    log: Path
    started_in: float


@contextmanager
def running(environment: Path, repository: Path, log: Path) -> Iterator[Server]:
    """Run a server for the block.

    Args:
        environment: That `.ci/server` made.
        repository: Its models.
        log: Gets its output.

    Raises:
        RuntimeError: If it ends, or is not ready in time.
    """
    python = environment / "bin" / "python"
    found = subprocess.run([python, "-c", PATHS], capture_output=True, text=True, check=True)
    site, libraries = found.stdout.split()
    triton = Path(site) / "pytriton" / "tritonserver"
    shared = [libraries, f"{site}/nvidia_pytriton.libs", os.environ.get("LD_LIBRARY_PATH", "")]
    # The python backend takes the first python3 of PATH, and what is installed beside it
    variables = os.environ | {
        "LD_LIBRARY_PATH": ":".join(filter(None, shared)),
        "PATH": f"{environment.absolute() / 'bin'}:{os.environ['PATH']}",
    }
    http, grpc = _free_ports(2)
    options = {
        "model-repository": repository,
        "backend-directory": triton / "backends",
        "http-address": "127.0.0.1",
        "http-port": http,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc,
        "allow-metrics": "false",
    }
    command = [triton / "bin" / "tritonserver", *(f"--{k}={v}" for k, v in options.items())]
    begin = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    try:
        _wait(process, http, log)
        ready = time.monotonic() - begin
        yield Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", process, log, ready)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses; all are held until the last one is found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until all models are ready."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"tritonserver ended with {process.returncode}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"tritonserver is not ready after {START_SECONDS} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])
