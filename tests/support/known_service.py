"""Models with a known time of service, to be opened in another process."""

import os
import signal
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Sleeper:
    """A call that takes so many seconds, and as many more per image.

    Attributes:
        seconds: Of a call.
        per_image: Seconds.
        fails_at: Number of the call that fails; 0 for none.
        how: The way it fails: "error", "memory", "killed", "hangs".
    """

    seconds: float
    per_image: float = 0.0
    fails_at: int = 0
    how: str = "error"

    def __call__(self):
        calls = 0

        def call(images):
            nonlocal calls
            calls += 1
            if calls == self.fails_at:
                self._fail()
            time.sleep(self.seconds + self.per_image * len(images))

        return call

    def _fail(self):
        match self.how:
            case "error":
                raise RuntimeError("the device was lost\nand a second line")
            case "memory":
                raise MemoryError
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(1000)
