"""Writes files beside the training, one at a time."""

import threading
from collections.abc import Callable


class BackgroundWriter:
    """A thread that writes, while the main one goes on.

    What it writes must not change meanwhile. Its error is raised in the main thread, by the next
    call of a method.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Write in the background, as soon as what was started before is written.

        Args:
            write: Called once, in the thread.

        Raises:
            VGGDeployError: What an earlier `write` raised; nothing is started then.
        """
        self.wait()

        def run() -> None:
            try:
                write()
            except BaseException as error:  # for the main thread
                self._error = error

        # a daemon: a second signal ends the process without waiting for it
        thread = threading.Thread(target=run, name="checkpoint", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            run()
        else:
            self._thread = thread

    def check(self) -> None:
        """Raise what went wrong so far; wait for nothing.

        Raises:
            VGGDeployError: What `write` raised.
        """
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            VGGDeployError: What `write` raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def settle(self) -> None:
        """Wait until nothing is being written any more; an error counts as written."""
        if self._thread is not None:
            self._thread.join()
