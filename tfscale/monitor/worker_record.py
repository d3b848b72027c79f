"""The files of a worker while it trains: its lines, its heartbeat, and its claim of both.

A disk that is full, or fails, does not end the training. What could not be written is kept and
tried again with each line; lines of steps that wait become one, with their sums. So no second is
lost, only where in that time it was spent. The line says how many it has in it:

    {"event": "steps", "steps": 120, ..., "unwritten": {"lines": 11, "error": "No space left ..."}}

If there is room no more before the end, the heartbeat stays, and says the same: overwriting a file
needs no room.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategies.extension import announce, at_end_of_fit
from tfscale.monitor.claim import Claim
from tfscale.monitor.heartbeat import Heartbeat, left_heartbeat, remove_heartbeat
from tfscale.monitor.journal import Journal, stamped
from tfscale.monitor.summed_lines import summed

_MOST_WORDS = 100
"""Of an error, so that it fits into the heartbeat."""


class WorkerRecord:
    """Writes what a worker does in one `fit`, and closes its files when that ends.

    Args:
        folder: The folder of Monitor, which is made if needed.
        worker: The worker's index.
        begin: The values of the line of its beginning.

    Raises:
        OSError: If the files cannot be made.
        ValueError: If another process writes them.
    """

    def __init__(self, folder: Path, worker: int, begin: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._worker = folder, worker
        claim = Claim(folder, worker)
        at_end_of_fit(claim.release)
        self._journal = Journal(folder, worker)
        at_end_of_fit(self._journal.close)
        self._heartbeat: Heartbeat | None = None
        self._waiting: list[dict[str, Any]] = []
        self._error, self._is_removed = "", False
        left = left_heartbeat(folder, worker)
        self._flush(*([left] if left else []), stamped("begin", begin))
        if not self._waiting:
            remove_heartbeat(folder, worker)

    def begin_heartbeat(self, so_far: Callable[[], dict[str, Any]]) -> None:
        """Begins to write what follows the newest line, from a thread.

        Args:
            so_far: See `Heartbeat`.
        """

        def with_unwritten() -> dict[str, Any]:
            values, steps = so_far(), self._unwritten_steps()
            if steps is None or "unwritten" not in steps:  # or is being written
                return values
            own = steps["phases"]
            return {
                **values,
                "steps": values["steps"] + steps["steps"],
                "phases": {name: values["phases"][name] + own[name] for name in own},
                "unwritten": steps["unwritten"],
            }

        if self._waiting:
            return  # without its beginning, and that of an earlier process has to stay
        try:
            self._heartbeat = Heartbeat(self._folder, self._worker, with_unwritten)
        except OSError as error:
            announce(
                f"Monitor has no heartbeat: {error}. If this process does not end by itself, what "
                "follows its newest line counts as stopped."
            )
            return
        at_end_of_fit(self._heartbeat.end)

    def steps(self, values: dict[str, Any]) -> None:
        """Writes a line of steps."""
        line = stamped("steps", values)
        if (before := self._unwritten_steps()) is not None:
            line = summed(before, line)
            line["unwritten"]["lines"] += 1
            self._waiting[self._waiting.index(before)] = line
            self._flush()
        else:
            self._flush(line)

    def end(self, position: int) -> None:
        """Writes the end of a `fit` that ends by itself.

        Args:
            position: Steps of the training before it.
        """
        self._flush(stamped("end", {"position": position}))
        if self._waiting:
            announce(
                f"Monitor could not write the end of {self._journal.path.name}: {self._error}. "
                + self._what_is_lost()
            )
        elif self._heartbeat is not None:
            self._heartbeat.remove()

    def _what_is_lost(self) -> str:
        if self._is_removed:
            return "What was written before is gone with the file."
        if any(line["event"] == "begin" for line in self._waiting):
            return "Nothing of this training is in it."
        if self._heartbeat is None or self._unwritten_steps() is None:
            return "All else of this training is in it."
        return "The heartbeat beside it has the time of the lines that are missing, and no more."

    def _flush(self, *lines: dict[str, Any]) -> None:
        """Writes what waits, and these lines; says once if it cannot, and once that it can."""
        self._waiting += lines
        try:
            while self._waiting:
                self._journal.write(self._waiting[0])
                del self._waiting[0]
        except OSError as error:
            for line in self._waiting:
                if line["event"] == "steps":
                    line.setdefault("unwritten", {"lines": 1, "error": _words(error)})
            if not self._error:
                what = (
                    "What it records from now on is lost."
                    if isinstance(error, FileNotFoundError)
                    else "Make room: until then lines wait, and become one with their sums."
                )
                announce(
                    f"Monitor cannot write {self._journal.path}: {_words(error)}. Training goes "
                    f"on. {what}"
                )
            self._is_removed = isinstance(error, FileNotFoundError)
            self._error = _words(error)
            return
        if self._error:
            announce(f"Monitor writes {self._journal.path.name} again. No time is missing in it.")
            self._error = ""

    def _unwritten_steps(self) -> dict[str, Any] | None:
        """Returns the line of steps that waits."""
        return next((line for line in self._waiting if line["event"] == "steps"), None)


def _words(error: OSError) -> str:
    return (error.strerror or str(error))[:_MOST_WORDS]
