"""Images decoded and rescaled ahead of who needs them, in their order, by processes.

Threads would wait for each other: between two calls of Pillow's every one of them wants Python's lock. The pixels lie in memory that all
processes see and that is used again, for handing over fresh pages costs as much as decoding; the pipes carry places only.
"""

import mmap
import multiprocessing
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import NamedTuple, NoReturn

import numpy as np

from vgg_deploy.data import Dataset
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.preprocess import resized
from vgg_deploy.workers import outlive_signals, signals_held_back

TASK = 4  # images, told of in one message
AHEAD = 2  # tasks a process
ASPECT = 2  # up to which an image is sure to find room


class Scale(NamedTuple):
    """One way to rescale an image."""

    side: int  # of the shorter side, S or Q, pixels
    filter: str


Scaled = dict[Scale, np.ndarray]  # an image at every scale that wants it: (3, h, w) uint8 RGB, min(h, w) == side
Place = tuple[int, int, int] | np.ndarray  # in a room: first byte, height, width; or the pixels, where there was none left


def decoded(dataset: Dataset, wanted: Mapping[Scale, np.ndarray], processes: int) -> Iterator[tuple[int, Scaled | InputError]]:
    """(position, the image or what is wrong with it) of every image that any scale wants.

    Args: wanted, for each scale (images,) bool.
    Yields: arrays that are good until the next image is asked for.
    Raises: CheckFailed if a process was killed, could not begin, or found no memory.
    """
    indices = np.flatnonzero(np.any(list(wanted.values()), axis=0))
    tasks = [indices[i : i + TASK].tolist() for i in range(0, len(indices), TASK)]
    processes = min(processes, len(tasks))
    room = TASK * sum(3 * ASPECT * scale.side**2 for scale in wanted)
    rooms = np.frombuffer(mmap.mmap(-1, max(1, (AHEAD * processes + 1) * room)), np.uint8).reshape(-1, max(1, room))
    with closing(_Team(processes, dataset, wanted, rooms)) as team:
        for given in range(min(AHEAD * processes, len(tasks))):
            team.give(given, tasks[given])
        for number, task in enumerate(tasks):
            found = team.take(number)
            if (following := number + AHEAD * processes) < len(tasks):
                team.give(following, tasks[following])
            for index, places in zip(task, found, strict=True):
                if isinstance(places, Failure):
                    places.raised()
                yield index, places if isinstance(places, InputError) else {s: _pixels(place, rooms[number % len(rooms)]) for s, place in places.items()}


class Failure(NamedTuple):
    """Something in a process that is no fault of an image: told by the main one, for a process has no terminal of its own."""

    of_memory: bool
    text: str

    def raised(self) -> NoReturn:
        raise CheckFailed(self.text) if self.of_memory else RuntimeError(self.text)


class _Team:
    """Processes that take tasks in turn; task n is done by process n modulo their number, in the room n modulo theirs."""

    def __init__(self, size: int, dataset: Dataset, wanted: Mapping[Scale, np.ndarray], rooms: np.ndarray):
        fork = multiprocessing.get_context("fork")  # what it works on is there already
        self.members: list[tuple[BaseProcess, Connection]] = []
        # Python would end them by SIGTERM, which they outlive
        self.close = Finalize(self, _end, (self.members,), exitpriority=0)
        try:
            with signals_held_back():
                for _ in range(size):
                    ours, theirs = fork.Pipe()
                    inherited = [ours, *(pipe for _, pipe in self.members)]
                    process = fork.Process(target=_work, args=(theirs, inherited, dataset, wanted, rooms), daemon=True)
                    process.start()
                    theirs.close()
                    self.members.append((process, ours))
        except OSError as error:
            self.close()
            raise CheckFailed(f"cannot start {size} decoding processes ({error.strerror}); lower --threads") from None
        except BaseException:
            self.close()
            raise

    def give(self, number: int, task: list[int]) -> None:
        process, pipe = self.members[number % len(self.members)]
        try:
            pipe.send((number, task))
        except OSError:
            raise _killed(process) from None

    def take(self, number: int) -> list[dict[Scale, Place] | InputError | Failure]:
        """Wait for a task that was given; tasks are taken in their order."""
        process, pipe = self.members[number % len(self.members)]
        try:
            if pipe not in wait([pipe, process.sentinel]):
                raise EOFError
            return pipe.recv()
        except (EOFError, OSError):  # the latter if it was killed in the middle of a message
            raise _killed(process) from None


def _end(members: list[tuple[BaseProcess, Connection]]) -> None:
    """They have nothing to lose."""
    for process, _ in members:
        process.kill()
    for process, pipe in members:
        process.join()
        pipe.close()


def _killed(process: BaseProcess) -> CheckFailed:
    process.join(1)
    return CheckFailed(f"a decoding process ended with {process.exitcode}, perhaps for want of memory; lower --threads and run again")


def _work(pipe: Connection, inherited: list[Connection], dataset: Dataset, wanted: Mapping[Scale, np.ndarray], rooms: np.ndarray) -> None:
    """A process of the team. Args: inherited, the main process's ends; while any other process holds one, its death is not seen."""
    outlive_signals()
    for end in inherited:
        end.close()
    while True:
        try:
            number, task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        told = _scaled(dataset, wanted, task, rooms[number % len(rooms)])
        try:
            pipe.send(told)
        except ConnectionError:
            return


def _scaled(dataset: Dataset, wanted: Mapping[Scale, np.ndarray], task: list[int], room: np.ndarray) -> list[dict[Scale, Place] | InputError | Failure]:
    """Images of one task, put into its room one behind the other."""
    told, used = [], 0
    for index in task:
        try:
            image = dataset.image(index)
            places = {}
            for scale, chosen in wanted.items():
                if chosen[index]:
                    pixels = np.asarray(resized(image, *scale)).transpose(2, 0, 1)
                    places[scale] = (used, *pixels.shape[1:]) if used + pixels.size <= len(room) else np.ascontiguousarray(pixels)
                    if isinstance(places[scale], tuple):
                        _pixels(places[scale], room)[...] = pixels
                        used += pixels.size
            told.append(places)
        except InputError as error:
            told.append(error)
        except MemoryError:
            told.append(Failure(True, f"{dataset.where(index)}: decoding found no memory; lower --threads, or leave the image out"))
        except Exception:  # a fault of the program, which the main process raises with these words
            told.append(Failure(False, f"{dataset.where(index)}: {traceback.format_exc()}"))
    return told


def _pixels(place: Place, room: np.ndarray) -> np.ndarray:
    """(3, h, w) uint8, a view of the room where they lie there."""
    if isinstance(place, np.ndarray):
        return place
    begin, height, width = place
    return room[begin : begin + 3 * height * width].reshape(3, height, width)
