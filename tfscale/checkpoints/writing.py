"""Writing beside training: one write at a time, and its error told to whoever trains."""

from __future__ import annotations

import threading
from collections.abc import Callable

DEADLINE_SECONDS = 1800.0


class BackgroundWriter:
    """Runs one write at a time in a thread of its own.

    A process that ends waits for the write it has begun. At most one is pending for a place, also
    of several writers, so that at most one snapshot is in memory.

    Args:
        place: Where the writes go, such as the path of a folder.
    """

    def __init__(self, place: str) -> None:
        self._name = f"tfscale checkpoint {place}"
        self._failure: Exception | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Begins a write; call `wait` before.

        Args:
            write: Writes the snapshot.
        """

        def run() -> None:
            try:
                write()
            except Exception as error:  # told to the training thread
                self._failure = error

        threading.Thread(target=run, name=self._name).start()

    def check(self) -> None:
        """Raises the error of a write that failed, once; does not wait."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """Waits until nothing is pending, of an earlier writer to the same place neither.

        Raises:
            TimeoutError: If it takes more than `DEADLINE_SECONDS`.
            Exception: What the write ended with.
        """
        for thread in threading.enumerate():
            if thread.name != self._name:
                continue
            thread.join(DEADLINE_SECONDS)
            if thread.is_alive():
                raise TimeoutError(
                    f"A checkpoint was not written within {DEADLINE_SECONDS:g} s. Look at the file "
                    "system of its folder; the checkpoints from before are whole."
                )
        self.check()
