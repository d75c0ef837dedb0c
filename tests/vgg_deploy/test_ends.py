"""How processes end: signals, closed or full streams, and faults of the program itself."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
COMMAND = """
import os, signal, sys, time, click
class Gone:
    pass
from vgg_deploy.command_line import Command
from vgg_deploy.errors import interruptible
@click.command(cls=Command)
@interruptible("all is kept")
def main():
    {}
main()
"""
WAIT = "print('ready', flush=True); time.sleep(60)"
FAULT = "raise KeyError('a' + chr(10) + '::error::b')"


def start(body: str, **settings) -> subprocess.Popen:
    words = [sys.executable, "-c", COMMAND.format(body)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **pipes.pop("env", {})}
    return subprocess.Popen(words, env=env, text=True, **pipes)


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_alike(name):
    process = start(WAIT)
    assert process.stdout.readline() == "ready\n"
    number = getattr(signal, name)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    how = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert err == f"Error: {how}; all is kept\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_in_a_callback_is_not_lost(name):
    number = getattr(signal, name)
    setting = f"import signal, weakref; kill = lambda it: signal.raise_signal({int(number)})"
    process = start(f"{setting}; ref = weakref.ref(Gone(), kill); {WAIT}")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number and err.endswith("; all is kept\n")
    assert len(err.splitlines()) == 1


def test_a_signal_waits_for_the_end_of_an_import(tmp_path):
    """Oracle: a module that notes an exception while it is imported."""
    lines = ["import time", "try:", "    print('ready', flush=True)", "    time.sleep(1)"]
    lines += ["except BaseException:", "    print('broken', flush=True)", "    raise"]
    (tmp_path / "slow_module.py").write_text("\n".join(lines))
    process = start(f"sys.path.insert(0, {str(tmp_path)!r}); import slow_module; time.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (out, err) == ("", "Error: stopped by SIGTERM; all is kept\n")


def test_a_signal_after_the_work_changes_nothing():
    body = "import atexit; atexit.register(lambda: (print('ready', flush=True), time.sleep(60)))"
    process = start(body)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert (err, process.returncode) == ("", 0)


def test_an_ignored_signal_stays_ignored():
    """As nohup starts a command."""
    process = start("print(signal.getsignal(signal.SIGHUP).name)", preexec_fn=ignore_hangup)
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("SIG_IGN\n", 0)


def test_a_closed_pipe_ends_quietly():
    process = start("[print('x' * 100) for _ in range(100000)]")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(20) == 128 + signal.SIGPIPE
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stream_is_named():
    with open("/dev/full", "w") as full:
        process = start("print('x')", stdout=full)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 2
        reason = "No space left on device); send it somewhere else"
        assert err == f"Error: standard output cannot be written ({reason}\n"
        process = start("click.echo('x', err=True)", stderr=full)
        out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == ("", 2)


def test_unbuffered_output_stays_unbuffered():
    body = "sys.stdout.write('a'); time.sleep(60)"
    process = start(body, env={"PYTHONUNBUFFERED": "1"})
    # before the process ends, which would write what is in a buffer
    arrived, _, _ = select.select([process.stdout], [], [], 50)
    process.terminate()
    process.communicate(timeout=20)
    assert arrived


def test_closed_streams_do_not_matter(tmp_path):
    body = f"open({str(tmp_path / 'x')!r}, 'w').write('whole'); print('a'); os.write(1, b'b')"
    words = ["sh", "-c", '"$0" "$@" <&- >&- 2>&-', sys.executable, "-c", COMMAND.format(body)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(words, env=env, timeout=20).returncode == 0
    assert (tmp_path / "x").read_text() == "whole"


def test_a_fault_names_the_file_of_its_traceback(tmp_path):
    faults = tmp_path / "faults"
    faults.mkdir()
    for i in range(30):
        (faults / f"2000{i:02d}.txt").touch()
    process = start(FAULT, env={"VGG_DEPLOY_CACHE": str(tmp_path)})
    out, err = process.communicate(timeout=20)
    assert process.returncode == 70 and out == "" and len(err.splitlines()) == 1
    assert "please report it, with the file" in err and "KeyError" in err
    path = Path(err.rpartition("the file ")[2].strip())
    assert "Traceback" in path.read_text() and path.stat().st_size < 2**16 + 100
    assert len(list(faults.iterdir())) == 20


def test_a_link_among_temporary_files_is_not_followed(tmp_path):
    (tmp_path / "file").touch()
    own = tmp_path / "own"
    own.mkdir()
    for i in range(30):
        (own / f"{i}.txt").touch()
    (tmp_path / f"vgg-deploy-faults-{os.getuid()}").symlink_to(own)
    process = start(
        FAULT, env={"VGG_DEPLOY_CACHE": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    )
    _, err = process.communicate(timeout=20)
    assert process.returncode == 70 and "Traceback" in err
    assert len(list(own.iterdir())) == 30


def test_a_fault_is_never_hidden(tmp_path):
    (tmp_path / "file").touch()
    body = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'file')!r}; {FAULT}"
    process = start(body, env={"VGG_DEPLOY_CACHE": str(tmp_path / "file")})
    _, err = process.communicate(timeout=20)
    assert process.returncode == 70 and "Traceback" in err and "\n::error::" not in err


def test_a_removed_working_directory_is_named(tmp_path):
    (tmp_path / "lost").mkdir()
    words = ["sh", "-c", 'rmdir "$PWD"; exec "$0" "$@"', sys.executable, "-c"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, COMMAND.format("print('reached')")],
        env=env,
        cwd=tmp_path / "lost",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: the working directory cannot be found (no such file or directory); "
        "change to another one\n"
    )


def test_names_survive_an_ascii_terminal():
    process = start("print(chr(233) + chr(8230))", env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("\\xe9\\u2026\n", "", 0)
