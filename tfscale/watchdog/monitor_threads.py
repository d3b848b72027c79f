"""The two threads of a watch: one says where this worker is, one looks after all of them."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from strategies.extension import (
    ExitReason,
    Heartbeat,
    HeartbeatBoard,
    LocalHeartbeat,
    Peers,
    Progress,
    Seen,
    TaskProbe,
    announce,
    stalled_workers,
    state_of_tasks,
    write_exit_reason,
)

BEAT_SECONDS = 1.0
NOTICE_SECONDS = 7.0
"""A worker that has not moved for so long is named, or for twice the longest pause that ended by
itself: a step may take longer."""
GRACE_SECONDS = 5.0
"""After the deadline a process has so long to end by itself."""

_PEERS_SECONDS = 3.5
_PREFIX = "tfscale: watchdog:"
_OF_OTHERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What TensorFlow raises here when another worker fails."""


class Sentry:
    """Watches one `fit` of this process, and the other workers' if there are any.

    Args:
        deadline_seconds: See `tfscale.callbacks.Watchdog`.
        board: Where workers read of each other; None if this process trains alone, or is the chief
            of an asynchronous training.
        probe: Asks the other tasks of an asynchronous training whether they answer.
    """

    def __init__(
        self,
        deadline_seconds: float,
        board: HeartbeatBoard | None,
        probe: TaskProbe | None = None,
    ) -> None:
        self._probe = probe
        self._deadline = deadline_seconds
        self._board = board
        self._peers = Peers(board, "this process" if probe is None else "the chief")
        self._names = board.names if board else [""]
        self._own = board.own if board else 0
        self._notice = NOTICE_SECONDS
        self._told: frozenset[int] = frozenset()
        self._pauses: dict[int, float] = {}
        self._has_given_up = False
        self._last_word = ""
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, progress: Progress) -> None:
        """Starts to watch."""
        self._local_heartbeat = LocalHeartbeat(lambda: progress)
        self._heart = self._local_heartbeat.beat()
        loops: list[Callable[[], None]] = [self._look_until_over]
        if self._board is not None:
            loops.append(self._beat_until_over)
        for loop in loops:
            thread = threading.Thread(target=loop, name="tfscale watchdog", daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self, error: BaseException | None) -> None:
        """Stops to watch; says whom this worker was waiting for if that ended its `fit`.

        Args:
            error: What ended the `fit`, or None.
        """
        is_of_others = isinstance(error, _OF_OTHERS) and _PREFIX not in str(error)
        if is_of_others and self._board is not None and not self._has_given_up:
            self._say_who_is_gone(error)
        if error is None:
            self._last_word = "has ended its fit"
        else:
            self._last_word = f"failed with {type(error).__name__}"
        self._is_over.set()
        for thread in self._threads:
            thread.join(2 * BEAT_SECONDS)
        if not self._has_given_up:
            faulthandler.cancel_dump_traceback_later()

    def _beat_until_over(self) -> None:
        assert self._board is not None
        is_over = False
        while not is_over:
            try:
                self._board.write(self._heart.to_json())
                is_over = self._is_over.wait(BEAT_SECONDS)
                if is_over:
                    self._board.write(self._local_heartbeat.beat(self._last_word).to_json())
            except tf.errors.OpError:  # the table is gone; the other loop sees it too
                is_over = self._is_over.wait(BEAT_SECONDS)

    def _look_until_over(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            # From C, for a thread that holds Python's lock lets no watch of Python's run.
            _end_process_after(self._deadline + GRACE_SECONDS)
            self._heart = self._local_heartbeat.beat()
            self._ask_tasks()
            self._peers.look(self._heart)
            if self._judge(self._peers.seen(self._heart)):
                return

    def _judge(self, workers: list[Seen]) -> bool:
        """Names who holds up the job; ends it, and returns True, past the deadline."""
        self._name(workers)
        late = stalled_workers(workers, self._deadline)
        if not late:
            return False
        self._has_given_up = True
        why = "; ".join(self._sentence(workers[i]).rstrip(".") for i in late)
        why = f"the job is ended after {self._deadline:g} s: {why}."
        silent = next(iter(self._probe.silent() if self._probe else ()), None)
        at_fault = silent or self._names[late[0]]
        is_own = silent is None and self._own in late
        write_exit_reason(ExitReason(f"watchdog: {why}", is_own, at_fault))
        _say(why, None if self._told.issuperset(late) else workers[late[0]].heartbeat)
        _end_process_after(GRACE_SECONDS)
        if self._board is not None:
            self._board.end_job(f"{_PREFIX} {why}")
        return True

    def _name(self, workers: list[Seen]) -> None:
        found = frozenset(stalled_workers(workers, self._notice))
        for i in sorted(found - self._told):
            _say(self._sentence(workers[i]), workers[i].heartbeat)
        for i in sorted(self._told - found):
            if not workers[i].is_over and workers[i].still < self._notice:
                _say(f"{workers[i].name} moves again.", None)
                self._notice = max(self._notice, 2 * self._pauses[i])
        self._pauses = {i: workers[i].still for i in found}
        self._told = found

    def _ask_tasks(self) -> None:
        if self._probe is None:
            return
        if self._heart.still < BEAT_SECONDS:
            self._probe.forget()
        else:
            self._probe.look()

    def _sentence(self, seen: Seen) -> str:
        if self._probe is None:
            return seen.sentence()
        silent = self._probe.silent()
        slow = {name: s for name, s in self._probe.busy().items() if s >= NOTICE_SECONDS}
        tasks = f"{state_of_tasks(silent, slow)} " if silent or slow else ""
        return f"{tasks}{seen.sentence()[0].upper()}{seen.sentence()[1:]}"

    def _say_who_is_gone(self, error: BaseException | None) -> None:
        """Names the workers that have failed, and those that do not answer any more.

        Without one that was named already, waits for a word of each.
        """
        begin = time.monotonic()
        if not self._told:
            self._is_over.wait(_PEERS_SECONDS)
        waited = time.monotonic() - begin
        for i, seen in enumerate(self._peers.seen(self._heart)):
            is_mute = not self._told and seen.age >= waited
            if seen.is_over or is_mute or i in self._told:
                what = seen.silence() if is_mute and not seen.is_over else seen.sentence()
                _say(f"{what} This worker's {type(error).__name__} follows.", None)


def _end_process_after(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def _say(sentence: str, heartbeat: Heartbeat | None) -> None:
    stack = heartbeat.stack if heartbeat else ""
    announce(f"watchdog: {sentence}" + (f" Its stack:\n{stack}" if stack else ""))
    sys.stdout.flush()
