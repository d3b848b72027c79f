"""Writes checkpoints in the background, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

DEADLINE_SECONDS = 1800.0


class BackgroundWriter:
    """Runs one write at a time in a background thread.

    The process waits for a pending write before it ends. At most one write is pending per place,
    also with several writers, so that at most one snapshot is in memory.

    Args:
        place: The target of the writes, such as the path of a folder.
    """

    def __init__(self, place: str) -> None:
        self._name = f"tfscale checkpoint {place}"
        self._failure: Exception | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Starts a write. Call `wait` first.

        Args:
            write: Writes the snapshot.
        """

        def run() -> None:
            try:
                write()
            except Exception as error:  # raised in the training thread by `check`
                self._failure = error

        threading.Thread(target=run, name=self._name).start()

    def check(self) -> None:
        """Raises the error of a failed write, once, without waiting."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """Waits until no write is pending, including those of earlier writers to the same place.

        Raises:
            TimeoutError: If it takes longer than `DEADLINE_SECONDS`.
            Exception: The error of the write.
        """
        for thread in threading.enumerate():
            if thread.name != self._name:
                continue
            thread.join(DEADLINE_SECONDS)
            if thread.is_alive():
                raise TimeoutError(
                    f"A checkpoint was not written within {DEADLINE_SECONDS:g} s. Check the file "
                    "system of its folder. Earlier checkpoints are intact."
                )
        self.check()
