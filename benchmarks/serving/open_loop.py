"""Sends requests to a Triton server when they are due, and notes when answers come."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as grpc

WAIT_SECONDS = 120  # for the last answer


@dataclass(frozen=True)
class Sent:
    """What became of a schedule.

    Attributes:
        answered: (N,) float64 seconds since the start of the schedule; NaN without an answer.
        late: Seconds by which the request that was sent latest after it was due was late.
    """

    answered: np.ndarray
    late: float


def send(address: str, model: str, photos: Sequence[bytes], due: np.ndarray) -> Sent:
    """Send one photo per request, in turn.

    Args:
        address: Of the server's gRPC.
        model: A photo model.
        photos: Encoded files.
        due: (N,) float64 seconds since the start, in order.
    """
    entries = [_entry(photo) for photo in photos]
    answered, open_requests, lock = np.full(len(due), np.nan), [len(due)], threading.Lock()
    finished, late = threading.Event(), 0.0

    def done(position: int, error: Exception | None) -> None:
        now = time.perf_counter() - begin
        with lock:
            if error is None:
                answered[position] = now
            open_requests[0] -= 1
            if not open_requests[0]:
                finished.set()

    with grpc.InferenceServerClient(address) as client:
        client.infer(model, [entries[0]])  # connects
        begin = time.perf_counter()
        for position, moment in enumerate(due):
            wait = begin + moment - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            late = max(late, time.perf_counter() - begin - moment)
            client.async_infer(
                model,
                [entries[position % len(entries)]],
                lambda result, error, position=position: done(position, error),
            )
        finished.wait(WAIT_SECONDS)
        with lock:
            return Sent(answered.copy(), late)


def one_at_a_time(address: str, model: str, photos: Sequence[bytes], count: int) -> np.ndarray:
    """(count,) float64 seconds of requests, each sent after the answer to the one before."""
    entries, times = [_entry(photo) for photo in photos], []
    with grpc.InferenceServerClient(address) as client:
        for position in range(-len(entries), count):  # each photo once to warm up
            begin = time.perf_counter()
            client.infer(model, [entries[position % len(entries)]])
            times.append(time.perf_counter() - begin)
    return np.array(times[len(entries) :])


def counts(address: str, model: str) -> tuple[int, int]:
    """Images and executions of a model so far, by the server's statistics."""
    with grpc.InferenceServerClient(address) as client:
        found = client.get_inference_statistics(model).model_stats[0]
    return found.inference_count, found.execution_count


def _entry(photo: bytes) -> grpc.InferInput:
    entry = grpc.InferInput("photo", [1, 1], "BYTES")
    entry.set_data_from_numpy(np.array([[photo]], dtype=object))
    return entry
