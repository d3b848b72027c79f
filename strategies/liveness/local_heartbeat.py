"""This process's heartbeat: where it is, how long it has not moved, what its threads do then."""

from __future__ import annotations

import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from strategies.coordination.rendezvous import meeting
from strategies.liveness.activity import doing
from strategies.liveness.heartbeat import Heartbeat
from strategies.progress import OUTSIDE, Progress

STACK_SECONDS = 3.0
"""A worker that has not moved for so long tells its stack."""

_INSIDE = re.compile(r"[\\/](tensorflow|keras)[\\/](python|src)[\\/]|^<frozen")
_FRAMES = 16
_OTHER_THREADS = 4
_CHARACTERS = 8000


class LocalHeartbeat:
    """Feels, whenever asked, whether the training has moved.

    It has if a phase began or ended, or a batch was read. While TensorFlow may be tracing, which
    can take minutes in which none of these happens, another line of Python in the thread that
    trains counts too; so it does outside of Keras's calls. At a meeting of workers nothing counts.

    Args:
        find: Returns what the thread that trains writes, or None where it is in no call.
        tells_stack: Whether the heartbeats of a worker that has not moved hold its stack.
    """

    def __init__(self, find: Callable[[], Progress | None], tells_stack: bool = True) -> None:
        self._find = find
        self._tells_stack = tells_stack
        self._number = 0
        self._mark: Any = None
        self._moved = time.monotonic()

    def beat(self, end: str = "") -> Heartbeat:
        """Returns the heartbeat of this moment.

        Args:
            end: How the `fit` or the program ended, if it has; see `Heartbeat`.
        """
        progress, met = self._find(), meeting()
        frames = sys._current_frames()
        thread = threading.main_thread().ident if progress is None else progress.thread
        own = frames.pop(thread, None) if thread is not None else None
        place = OUTSIDE if progress is None else progress.place()
        changes = 0 if progress is None else progress.changes
        is_in_python = progress is None or progress.is_first_execution()
        lines = _lines(own) if is_in_python and met is None else ()
        mark = (place, changes, lines, met)
        now = time.monotonic()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        self._number += 1
        still = now - self._moved
        is_told = self._tells_stack and still >= STACK_SECONDS and not end
        stack = _stacks(own, frames) if is_told else ""
        question = met.question if met is not None else ""
        others = (frame for _, frame in _others(frames))
        words = doing(place, question, own, others)
        return Heartbeat(self._number, place, round(still, 1), stack, end, words, question)


def _lines(frame: FrameType | None) -> tuple[tuple[int, int], ...]:
    return tuple((id(f.f_code), line) for f, line in traceback.walk_stack(frame))


def _others(frames: dict[int, FrameType]) -> list[tuple[str, FrameType]]:
    """Returns names and frames of threads that may keep the one that trains waiting.

    A generator's Python runs in a thread of TensorFlow's, for one. Threads of our own and Python's
    threads that wait for work, in `threading` or `queue`, are left out.
    """
    found = []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, frame in frames.items():
        name = names.get(identity, "a thread of TensorFlow's")
        is_idle = frame.f_globals.get("__name__") in ("threading", "queue", "selectors")
        if not (name.startswith("tfscale") or (is_idle and identity in names)):
            found.append((name, frame))
    return found


def _stacks(own: FrameType | None, others: dict[int, FrameType]) -> str:
    parts = [_rendered("the thread that trains", own)] if own else []
    parts += [_rendered(name, frame) for name, frame in _others(others)[:_OTHER_THREADS]]
    return "\n".join(parts)[:_CHARACTERS]


def _rendered(name: str, frame: FrameType) -> str:
    """Renders a stack without what lies inside of TensorFlow and Keras, but for where it is now."""
    *outer, innermost = traceback.extract_stack(frame)
    outer = [summary for summary in outer if not _INSIDE.search(summary.filename)]
    lines = "".join(traceback.format_list([*outer, innermost][-_FRAMES:]))
    return f"  {name}:\n{lines}".rstrip("\n")
