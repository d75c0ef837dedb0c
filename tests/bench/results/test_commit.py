"""The commit and the machine of a run. Oracle: git itself, in repositories made here."""

import os
import subprocess

import pytest

from bench.results.commit import Commit, commit_of
from bench.results.environment import describe_environment
from bench.results.machine import Machine


def git(folder, *words):
    who = {f"GIT_{kind}_{part}": "x@y" for kind in ("AUTHOR", "COMMITTER") for part in
           ("NAME", "EMAIL")}  # fmt: skip
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **who}, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_the_commit_is_gits_own(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert commit_of(repository) == Commit(head, False)
    (repository / "untracked").write_text("results, say")
    (repository / "sub").mkdir()
    assert commit_of(repository / "sub") == Commit(head, False)
    (repository / "file").write_text("two")
    found = commit_of(repository)
    assert found == Commit(head, True) and found.shown == head[:7] + "+"
    assert Commit.of_record(found.record()) == found


def test_a_folder_without_a_commit_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "folder"
    folder.mkdir()
    assert commit_of(folder) is None
    git(folder, "init", "-q")
    assert commit_of(folder) is None  # nothing is committed yet
    assert commit_of(tmp_path / "none") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(folder) is None  # no git


def test_a_repository_runs_no_program_of_its_own(repository, tmp_path):
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.hooksPath", "core.pager", "core.editor"):
        git(repository, "config", name, str(trap))
    assert commit_of(repository) is not None and not (tmp_path / "sprung").exists()
    (repository / "; touch sprung #").mkdir()
    assert commit_of(repository / "; touch sprung #") is not None
    assert not list(repository.rglob("sprung"))


@pytest.mark.parametrize("record", [None, 5, "abc", {}, {"id": 5}, {"id": "<script>"}])
def test_a_record_that_is_no_commit(record):
    assert Commit.of_record(record) is None


def test_the_environment_has_the_commit_of_the_working_folder(repository, monkeypatch):
    monkeypatch.chdir(repository)
    environment = describe_environment(1)
    assert environment["commit"] == {"id": git(repository, "rev-parse", "HEAD"), "changed": False}
    machine = Machine.of_environment(environment)
    assert machine.cpu == environment["cpu"] and machine.differences(machine) == []


def test_machines_differ_in_what_matters_for_speed():
    environment = {
        "cpu": "Fast", "cores_allowed": [0, 1], "cpu_instructions": ["avx2", "fma"], "gpus": [],
    }  # fmt: skip
    one = Machine.of_environment({**environment, "host": "a", "when": "then"})
    assert one == Machine.of_environment({**environment, "host": "b"})
    assert one.shown == "Fast, 2 cores" and one.differences(one) == []
    other = Machine.of_environment(
        {"cpu": "Slow", "cores_allowed": [5], "cpu_instructions": ["avx2"], "gpus": ["G"]}
    )
    assert one.differences(other) == [
        "CPU Slow there and Fast here",
        "1 cores there and 2 here",
        "fma on one of them only",
        "GPU G there and none here",
    ]
    unknown = Machine.of_environment({"cpu": 5, "cores_allowed": "x", "gpus": [1, "G"]})
    assert unknown.shown == "unknown CPU, G" and "unknown cores there" in str(
        one.differences(unknown)
    )
