"""The other workers, as this worker sees them by their heartbeats."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import tensorflow as tf

from strategies.coordination.heartbeats import HeartbeatBoard
from strategies.liveness.heartbeat import Heartbeat, ObservedWorker

READINGS = 16
"""How many workers one look reads, in turn: many readers must not overload the first worker."""

_READ_SECONDS = 0.2


@dataclass
class _Known:
    heartbeat: Heartbeat | None
    since: float


class Peers:
    """The last heartbeat of each worker, and its age.

    The first worker's process serves the table of heartbeats. While it does not answer, it is not
    known whether the others are alive, so only its own age grows.

    Args:
        board: Where the workers write; None if there is one worker only.
        single_name: The name of this process if there is one worker only.
    """

    def __init__(self, board: HeartbeatBoard | None, single_name: str = "this process") -> None:
        self._board = board
        self._names = board.names if board else [single_name]
        self._own = board.own if board else 0
        now = time.monotonic()
        self._known = [_Known(None, now) for _ in self._names]
        self._answered = now
        self._next = 0

    def look(self, own: Heartbeat) -> None:
        """Reads the heartbeats of some of the other workers."""
        if self._board is None:
            return
        others = [i for i in range(len(self._names)) if i != self._own]
        asked = {others[(self._next + n) % len(others)] for n in range(min(READINGS, len(others)))}
        self._next += READINGS
        begin = time.monotonic()
        with contextlib.suppress(tf.errors.OpError):  # the table is gone with the first worker
            for i in sorted(asked):
                text = self._board.read(i, _READ_SECONDS)
                if text is None:
                    continue
                self._answered = time.monotonic()
                known, heartbeat = self._known[i], Heartbeat.from_json(text)
                if known.heartbeat is None or heartbeat.number != known.heartbeat.number:
                    self._known[i] = _Known(heartbeat, self._answered)
            # The table may answer although these workers have not written yet.
            has_no_answer = self._answered < begin
            if has_no_answer and self._board.read(self._own, _READ_SECONDS) is not None:
                self._answered = time.monotonic()

    def seen(self, own: Heartbeat) -> list[ObservedWorker]:
        """Returns all workers in order, this one with the heartbeat `own`."""
        now = time.monotonic()
        return [
            ObservedWorker(name, own, 0.0)
            if i == self._own
            else ObservedWorker(name, known.heartbeat, (self._answered if i else now) - known.since)
            for i, (name, known) in enumerate(zip(self._names, self._known, strict=True))
        ]
