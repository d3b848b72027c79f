"""The other workers as this one sees them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import tensorflow as tf

from strategies.coordination.heartbeat_board import HeartbeatBoard
from strategies.liveness.heartbeat import Heartbeat, Seen

READINGS = 16
"""A look asks so many workers, in turn: a large job must not drown the first in questions."""

_READ_SECONDS = 0.2


@dataclass
class _Known:
    heartbeat: Heartbeat | None
    since: float


class Peers:
    """What this worker knows of all workers.

    The first worker's process holds the table in which all words stand. While it does not answer,
    nobody knows whether the others speak: only its own silence grows.

    Args:
        board: Where they write; None if there is one worker only.
        alone: What this process is called then.
    """

    def __init__(self, board: HeartbeatBoard | None, alone: str = "this process") -> None:
        self._board = board
        self._names = board.names if board else [alone]
        self._own = board.own if board else 0
        now = time.monotonic()
        self._known = [_Known(None, now) for _ in self._names]
        self._answered = now
        self._next = 0

    def look(self, own: Heartbeat) -> None:
        """Reads what some of the others say now."""
        if self._board is None:
            return
        others = [i for i in range(len(self._names)) if i != self._own]
        asked = {others[(self._next + n) % len(others)] for n in range(min(READINGS, len(others)))}
        self._next += READINGS
        begin = time.monotonic()
        with contextlib.suppress(tf.errors.OpError):  # the table is gone, and with it the first
            for i in sorted(asked):
                words = self._board.read(i, _READ_SECONDS)
                if words is None:
                    continue
                self._answered = time.monotonic()
                known, heartbeat = self._known[i], Heartbeat.from_words(words)
                if known.heartbeat is None or heartbeat.number != known.heartbeat.number:
                    self._known[i] = _Known(heartbeat, self._answered)
            # Perhaps the table answers, and those that were asked have said nothing yet.
            is_mute = self._answered < begin
            if is_mute and self._board.read(self._own, _READ_SECONDS) is not None:
                self._answered = time.monotonic()

    def seen(self, own: Heartbeat) -> list[Seen]:
        """Returns all workers in their order, this one with its own heartbeat."""
        now = time.monotonic()
        return [
            Seen(name, own, 0.0)
            if i == self._own
            else Seen(name, known.heartbeat, (self._answered if i else now) - known.since)
            for i, (name, known) in enumerate(zip(self._names, self._known, strict=True))
        ]
