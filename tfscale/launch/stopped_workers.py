"""Says which workers have been stopped for long: by SIGSTOP, a shell's job control or a debugger.

A stopped process is alive, so nothing ends and no event tells the launcher. If only some workers
are stopped, the others name them (strategies/liveness). If all are, only the launcher can. Nothing
is ended: what was stopped on purpose can go on. Needs Linux's /proc; elsewhere nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tfscale.launch.process_tree import PROCESSES, is_stopped, process_tree

_LOOKS = 4
"""How often the workers are looked at before the first notice is due."""
_RARELY_SECONDS = 5.0


class StoppedWorkers:
    """Looks at the workers now and then, and says what it finds.

    A worker that has been stopped for `seconds` is named, again after twice as long, and so on, and
    once more when it goes on.

    Args:
        seconds: How long a worker must have been stopped before it is named. Positive.
        now: The time, on the clock of `time.monotonic`.
        say: Called with each sentence.
        proc: The folder of the system's processes.

    Attributes:
        next_look: When `look` must be called next.
    """

    def __init__(
        self, seconds: float, now: float, say: Callable[[str], None], proc: Path = PROCESSES
    ) -> None:
        self._seconds = seconds
        self._every = min(seconds / _LOOKS, _RARELY_SECONDS)
        self._say, self._proc = say, proc
        self._since: dict[str, float] = {}
        self._notices: dict[str, float] = {}  # how long it was stopped at its latest notice
        self.next_look = now + self._every

    def look(self, now: float, workers: Iterable[tuple[str, int]]) -> None:
        """Looks at the workers, if it is time to.

        Args:
            now: The time, on the clock of `time.monotonic`.
            workers: Name and process id of each worker that runs.
        """
        if now < self.next_look:
            return
        self.next_look = now + self._every
        stopped: dict[str, list[int]] = {}
        for name, first in workers:
            found = [p for p in process_tree(first, self._proc) if is_stopped(p, self._proc)]
            if found:
                stopped[name] = found
        self._say_who_goes_on(now, stopped)
        due: dict[str, list[int]] = {}
        for name, processes in stopped.items():
            seconds = now - self._since.setdefault(name, now)
            if seconds >= max(self._seconds, 2 * self._notices.get(name, 0.0)):
                self._notices[name] = seconds
                due[name] = processes
        if due:
            self._say_who_is_stopped(now, due)

    def _say_who_goes_on(self, now: float, stopped: dict[str, list[int]]) -> None:
        for name in [name for name in self._since if name not in stopped]:
            seconds = now - self._since.pop(name)
            if self._notices.pop(name, None) is not None:
                self._say(f"{name} is no longer stopped, after {seconds:.0f} s")

    def _say_who_is_stopped(self, now: float, due: dict[str, list[int]]) -> None:
        longest = max(now - self._since[name] for name in due)
        names = ", ".join(due)
        numbers = [process for processes in due.values() for process in processes]
        listed = " ".join(map(str, numbers))
        self._say(
            f"{names}: no sign of life for {longest:.0f} s, because "
            f"{'processes' if len(numbers) > 1 else 'process'} {listed} "
            f"{'are' if len(numbers) > 1 else 'is'} stopped (SIGSTOP, Ctrl-Z or a debugger). The "
            f"job waits. To let it go on: kill -CONT {listed}. To end it: Ctrl-C, or SIGTERM to "
            "this launcher"
        )
