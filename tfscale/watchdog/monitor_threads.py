"""The two threads of the watchdog: one reports this worker's state, one checks all workers."""

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
    ObservedWorker,
    Peers,
    Progress,
    TaskProbe,
    announce,
    stalled_workers,
    state_of_tasks,
    write_exit_reason,
)

BEAT_SECONDS = 1.0
NOTICE_SECONDS = 7.0
"""A worker without progress for so long is named, or for twice the longest pause that ended by
itself, because a step may take longer."""
GRACE_SECONDS = 5.0
"""Time after the deadline until a process is killed."""

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
"""Errors that TensorFlow raises on this worker when another one fails."""


class MonitorThreads:
    """Monitors one `fit` of this process and of the other workers.

    Args:
        deadline_seconds: See `tfscale.callbacks.Watchdog`.
        board: Where workers read each other's heartbeats; None in a single process, and for the
            chief of asynchronous training.
        probe: Checks whether the other tasks of asynchronous training respond.
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
        self._named: frozenset[int] = frozenset()
        self._pauses: dict[int, float] = {}
        self._is_past_deadline = False
        self._final_state = ""
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, progress: Progress) -> None:
        """Starts the threads."""
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
        """Stops the threads. Names the worker whose failure ended this worker's `fit`.

        Args:
            error: The error that ended the `fit`, or None.
        """
        is_of_others = isinstance(error, _OF_OTHERS) and _PREFIX not in str(error)
        if is_of_others and self._board is not None and not self._is_past_deadline:
            self._name_failed_workers(error)
        if error is None:
            self._final_state = "has ended its fit"
        else:
            self._final_state = f"failed with {type(error).__name__}"
        self._is_over.set()
        for thread in self._threads:
            thread.join(2 * BEAT_SECONDS)
        if not self._is_past_deadline:
            faulthandler.cancel_dump_traceback_later()

    def _beat_until_over(self) -> None:
        assert self._board is not None
        is_over = False
        while not is_over:
            try:
                self._board.write(self._heart.to_json())
                is_over = self._is_over.wait(BEAT_SECONDS)
                if is_over:
                    self._board.write(self._local_heartbeat.beat(self._final_state).to_json())
            except tf.errors.OpError:  # the board is gone; the other loop notices it too
                is_over = self._is_over.wait(BEAT_SECONDS)

    def _look_until_over(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            # In C, because a thread that keeps Python's lock would block a Python timer.
            _end_process_after(self._deadline + GRACE_SECONDS)
            self._heart = self._local_heartbeat.beat()
            self._ask_tasks()
            self._peers.look(self._heart)
            if self._judge(self._peers.seen(self._heart)):
                return

    def _judge(self, workers: list[ObservedWorker]) -> bool:
        """Names workers that block the job. After the deadline ends the job and returns True."""
        self._name(workers)
        late = stalled_workers(workers, self._deadline)
        if not late:
            return False
        self._is_past_deadline = True
        why = "; ".join(self._sentence(workers[i]).rstrip(".") for i in late)
        why = f"the job is ended after {self._deadline:g} s: {why}."
        silent = next(iter(self._probe.silent() if self._probe else ()), None)
        at_fault = silent or self._names[late[0]]
        is_own = silent is None and self._own in late
        write_exit_reason(ExitReason(f"watchdog: {why}", is_own, at_fault))
        _say(why, None if self._named.issuperset(late) else workers[late[0]].heartbeat)
        _end_process_after(GRACE_SECONDS)
        if self._board is not None:
            self._board.end_job(f"{_PREFIX} {why}")
        return True

    def _name(self, workers: list[ObservedWorker]) -> None:
        found = frozenset(stalled_workers(workers, self._notice))
        for i in sorted(found - self._named):
            _say(self._sentence(workers[i]), workers[i].heartbeat)
        for i in sorted(self._named - found):
            if not workers[i].is_over and workers[i].still < self._notice:
                _say(f"{workers[i].name} makes progress again.", None)
                self._notice = max(self._notice, 2 * self._pauses[i])
        self._pauses = {i: workers[i].still for i in found}
        self._named = found

    def _ask_tasks(self) -> None:
        if self._probe is None:
            return
        if self._heart.still < BEAT_SECONDS:
            self._probe.forget()
        else:
            self._probe.look()

    def _sentence(self, seen: ObservedWorker) -> str:
        if self._probe is None:
            return seen.sentence()
        silent = self._probe.silent()
        slow = {name: s for name, s in self._probe.busy().items() if s >= NOTICE_SECONDS}
        tasks = f"{state_of_tasks(silent, slow)} " if silent or slow else ""
        return f"{tasks}{seen.sentence()[0].upper()}{seen.sentence()[1:]}"

    def _name_failed_workers(self, error: BaseException | None) -> None:
        """Names the workers that have failed or stopped responding.

        If none was named before, waits for one more heartbeat of each.
        """
        begin = time.monotonic()
        if not self._named:
            self._is_over.wait(_PEERS_SECONDS)
        waited = time.monotonic() - begin
        for i, seen in enumerate(self._peers.seen(self._heart)):
            is_mute = not self._named and seen.age >= waited
            if seen.is_over or is_mute or i in self._named:
                what = seen.silence() if is_mute and not seen.is_over else seen.sentence()
                _say(f"{what} This worker's {type(error).__name__} follows.", None)


def _end_process_after(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def _say(sentence: str, heartbeat: Heartbeat | None) -> None:
    stack = heartbeat.stack if heartbeat else ""
    announce(f"watchdog: {sentence}" + (f" Its stack:\n{stack}" if stack else ""))
    sys.stdout.flush()
