"""The folder of a run: one run gets it, however many start at the same moment."""

import multiprocessing
from pathlib import Path

import pytest

from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from train.recipe.config import TrainConfig
from train.record.run_folder import Run
from vgg_deploy.errors import InputError

THIN = options(
    "--arch A --width 0.0625 --crop 32 --side 32 --batch 16 --init he --epochs 1 "
    "--workers 0 --threads 1"
)


def create(barrier, folder: Path | None, rate: float, answers) -> None:
    """A process that asks for a folder when all others do."""
    config = TrainConfig(lr=rate)
    barrier.wait()
    try:
        answers.put((str(Run.create(folder, config, {"data": "x"}).folder), rate))
    except InputError as error:
        answers.put((error.message, None))


def at_once(folder: Path | None, count: int) -> list[tuple[str, float | None]]:
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(count), fork.Queue()
    processes = [
        fork.Process(target=create, args=(barrier, folder, (i + 1) / 100, answers))
        for i in range(count)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return found


@pytest.mark.slow
def test_of_processes_that_ask_for_one_folder_one_gets_it(here):
    for number in range(20):
        folder = here / str(number)
        found = at_once(folder, 3)
        (winner,) = [rate for _, rate in found if rate is not None]
        assert Run(folder).saved_config()[0].lr == winner
        for message, rate in found:
            assert (
                rate is not None
                or "already contains a run" in message
                or "another process is training here" in message
            )


@pytest.mark.slow
def test_runs_that_start_in_the_same_second_get_folders_of_their_own(here):
    for _ in range(5):
        found = at_once(None, 4)
        folders = dict(found)
        assert len(folders) == 4 and None not in folders.values()
        assert all(
            Run(Path(folder)).saved_config()[0].lr == rate for folder, rate in folders.items()
        )
    assert any(path.name.endswith("-2") for path in (here / "runs").iterdir())


@pytest.mark.slow
def test_a_folder_with_anything_in_it_is_refused(here, photos):
    (here / "notes").mkdir()
    (here / "notes" / "todo.txt").write_text("buy milk")
    output = run(train, *THIN, "--data", photos, "--out", here / "notes", code=2)
    assert "this folder is not empty, it holds todo.txt; choose another --out" in output
    assert [p.name for p in (here / "notes").iterdir()] == ["todo.txt"]
    run(train, *THIN, "--data", photos, "--out", here / "run")
    before = {p: p.read_bytes() for p in (here / "run").iterdir()}
    output = run(train, *THIN, "--data", photos, "--out", here / "run", code=2)
    assert (
        f"this folder already contains a run; resume it with --resume {here / 'run'}, or choose "
        f"another --out" in output
    )
    assert {p: p.read_bytes() for p in (here / "run").iterdir()} == before


@pytest.mark.parametrize("left", [[], [".lock"], [".config.json.abc.partial"]])
@pytest.mark.slow
def test_an_empty_folder_or_what_a_start_that_was_killed_left_is_taken(here, photos, left):
    (here / "run").mkdir()
    for name in left:
        (here / "run" / name).touch()
    assert "Done" in run(train, *THIN, "--data", photos, "--out", here / "run")
