"""This process's heartbeat: where it is, how long it has not moved, what its threads do then."""

from __future__ import annotations

import re
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any

from strategies.progress import Progress
from tfscale.watchdog.heartbeat import Heartbeat

STACK_SECONDS = 3.0
"""A worker that has not moved for so long tells its stack."""

_INSIDE = re.compile(r"[\\/](tensorflow|keras)[\\/](python|src)[\\/]|^<frozen")
_FRAMES = 16
_OTHER_THREADS = 4
_CHARACTERS = 8000


class Pulse:
    """Feels, whenever asked, whether the training has moved.

    It has if a phase began or ended, or a batch was read. While TensorFlow may be tracing, which
    can take minutes in which none of these happens, another line of Python in the thread that
    trains counts too.

    Args:
        progress: What the thread that trains writes.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._number = 0
        self._mark: Any = None
        self._moved = time.monotonic()

    def beat(self, end: str = "") -> Heartbeat:
        """Returns the heartbeat of this moment.

        Args:
            end: How the `fit` ended, if it has; see `Heartbeat`.
        """
        frames = sys._current_frames()
        own = frames.pop(self._progress.thread, None)
        place = self._progress.place()
        lines = _lines(own) if self._progress.is_first_execution() else ()
        mark = (place, self._progress.changes, lines)
        now = time.monotonic()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        self._number += 1
        still = now - self._moved
        stack = _stacks(own, frames) if still >= STACK_SECONDS and not end else ""
        return Heartbeat(self._number, place, round(still, 1), stack, end)


def _lines(frame: FrameType | None) -> tuple[tuple[int, int], ...]:
    return tuple((id(f.f_code), line) for f, line in traceback.walk_stack(frame))


def _stacks(own: FrameType | None, others: dict[int, FrameType]) -> str:
    """Renders the stack of the thread that trains, and of others that may keep it waiting.

    A generator's Python runs in a thread of TensorFlow's, for one. Threads of our own and Python's
    threads that wait for work, in `threading` or `queue`, say nothing.
    """
    parts = [_rendered("the thread that trains", own)] if own else []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, frame in others.items():
        name = names.get(identity, "a thread of TensorFlow's")
        is_idle = frame.f_globals.get("__name__") in ("threading", "queue", "selectors")
        if name.startswith("tfscale") or (is_idle and identity in names):
            continue
        if len(parts) <= _OTHER_THREADS:
            parts.append(_rendered(name, frame))
    return "\n".join(parts)[:_CHARACTERS]


def _rendered(name: str, frame: FrameType) -> str:
    """Renders a stack without what lies inside of TensorFlow and Keras, but for where it is now."""
    *outer, innermost = traceback.extract_stack(frame)
    outer = [summary for summary in outer if not _INSIDE.search(summary.filename)]
    lines = "".join(traceback.format_list([*outer, innermost][-_FRAMES:]))
    return f"  {name}:\n{lines}".rstrip("\n")
