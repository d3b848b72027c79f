"""Names the task that the chief waits for in asynchronous training.

Workers train independently and send no heartbeat. So the chief probes the servers of all tasks, but
only while it waits, or while one execution takes long.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from strategies.announcement import announce
from strategies.cluster.server_probe import TaskProbe
from strategies.liveness.heartbeat import LocalHeartbeat
from strategies.progress import followed_by_default, watched

LOOK_SECONDS = 1.0
LOOK_AFTER_SECONDS = 4.0

_MAY_WAIT = ("step", "trace", "evaluate", "predict", "save")


class TaskNotice:
    """Prints which task the chief waits for, after `seconds`, and then at doubling intervals.

    A long execution that finished by itself may recur. From then on a task is named only after
    twice the longest of them. A task that does not answer is named as soon as this is known.

    Args:
        probe: Probes the other tasks.
        seconds: When the first line is printed. Positive.
    """

    def __init__(self, probe: TaskProbe, seconds: float) -> None:
        self._probe = probe
        self._seconds = seconds
        self._local_heartbeat = LocalHeartbeat(watched, includes_stack=False)
        self._due = seconds
        self._said: frozenset[str] = frozenset()
        self._is_silence = False
        self._longest = self._ended = 0.0
        self._has_said_how = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._look_until_over, name="tfscale task notice", daemon=True
        )

    def begin(self) -> None:
        """Starts the thread that looks."""
        self._thread.start()

    def end(self) -> None:
        """Stops the thread; called before the program ends."""
        self._is_over.set()
        self._thread.join(2 * LOOK_SECONDS)

    def _look_until_over(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            beat, busy = self._local_heartbeat.beat(), self._probe.busy()
            waits = beat.still if beat.place.phase in _MAY_WAIT else 0.0
            longest = max([waits, *busy.values()])
            if longest < min(LOOK_AFTER_SECONDS, self._seconds / 2) or not followed_by_default():
                self._end_wait()
                continue
            self._probe.look()
            self._report(longest, busy, beat.place.epoch)

    def _end_wait(self) -> None:
        if self._said:
            announce(f"the chief continues; it had waited for {', '.join(sorted(self._said))}.")
            if not self._is_silence:
                self._ended = max(self._ended, self._longest)
        self._due, self._said = self._seconds, frozenset()
        self._probe.forget()

    def _report(self, longest: float, busy: Mapping[str, float], epoch: int) -> None:
        silent = self._probe.silent()
        slow = {name: seconds for name, seconds in busy.items() if seconds >= self._seconds}
        found = silent or slow
        is_new = bool(silent) and not self._said.issuperset(found)
        self._longest = longest
        if not found or (longest < max(self._due, 2 * self._ended) and not is_new):
            return
        self._said, self._is_silence = frozenset(found), bool(silent)
        self._due = max(2 * longest, 2 * self._seconds)
        how = "" if self._has_said_how else " To end such a job, pass tfscale.callbacks.Watchdog."
        self._has_said_how = True
        announce(f"the chief waits, in epoch {epoch + 1}: {state_of_tasks(silent, slow)}{how}")


def state_of_tasks(silent: Mapping[str, float], slow: Mapping[str, float]) -> str:
    """Returns which tasks hold up the training, and what to check.

    Args:
        silent: Tasks that do not answer, and for how many seconds.
        slow: Workers whose execution takes long, and for how many seconds.

    Example:
        >>> state_of_tasks({"ps 0": 8.2}, {}).partition(". ")[0]
        'ps 0 has not answered for 8 s'
    """
    if silent:
        said = "; ".join(
            f"{name} has not answered for {seconds:.0f} s" for name, seconds in silent.items()
        )
        return f"{said}. Check whether its process was stopped, and the network to its host."
    said = "; ".join(
        f"{name} has been in one execution for {seconds:.0f} s" for name, seconds in slow.items()
    )
    return f"{said}, and every task answers. Check its processors, and what its input waits for."
