"""Heartbeats: what a worker reports about itself, once a second, and how the others see it."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from strategies.coordination.rendezvous import current_rendezvous
from strategies.liveness.activity import described, doing
from strategies.progress import OUTSIDE, Place, Progress

SILENT_SECONDS = 5.0
"""A worker without a heartbeat for this long does not answer; it sends one each second."""

STACK_SECONDS = 3.0
"""A worker that has not moved for this long reports its stack."""

_INSIDE = re.compile(r"[\\/](tensorflow|keras)[\\/](python|src)[\\/]|^<frozen")
_FRAMES = 16
_OTHER_THREADS = 4
_CHARACTERS = 8000


@dataclass(frozen=True)
class Heartbeat:
    """What a worker reports about itself.

    Attributes:
        number: From 1; a reader recognises a new heartbeat by it.
        place: Where its training is.
        still: Seconds since it last moved.
        stack: What its threads do, if it has not moved for a while; else empty.
        end: "" while its `fit` runs; then how it ended, such as "has ended its fit".
        doing: What it does, to follow its name: "is in Slow.on_epoch_end, at train.py:40".
        question: That of the rendezvous at which it waits, such as "evaluate()"; else empty.
    """

    number: int
    place: Place
    still: float
    stack: str = ""
    end: str = ""
    doing: str = ""
    question: str = ""

    def to_json(self) -> str:
        """Returns the heartbeat as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Heartbeat:
        """Reads what `to_json` wrote."""
        found = json.loads(text)
        return Heartbeat(**{**found, "place": Place(**found["place"])})


@dataclass(frozen=True)
class ObservedWorker:
    """A worker as another one sees it.

    Attributes:
        name: Such as "worker 1".
        heartbeat: Its last heartbeat, or None if there was none yet.
        age: Seconds since that heartbeat arrived, by the clock of the reader.
    """

    name: str
    heartbeat: Heartbeat | None
    age: float

    @property
    def is_silent(self) -> bool:
        """Whether a heartbeat is overdue."""
        return not self.is_over and self.age >= SILENT_SECONDS

    @property
    def still(self) -> float:
        """Seconds since it last moved, as far as is known."""
        return self.age + (self.heartbeat.still if self.heartbeat else 0.0)

    @property
    def is_over(self) -> bool:
        """Whether its `fit` has ended."""
        return self.heartbeat is not None and self.heartbeat.end != ""

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the other workers, in a collective or at a rendezvous."""
        heartbeat = self.heartbeat
        return heartbeat is not None and (
            heartbeat.place.phase == "collective" or heartbeat.question != ""
        )

    def sentence(self) -> str:
        """Says in one line what is wrong with it."""
        if self.heartbeat is None or self.is_silent:
            return self.silence()
        where = described(self.heartbeat.place)
        if self.is_over:
            return f"{self.name} {self.heartbeat.end}: {where}."
        return f"{self.name} has not moved for {self.still:.0f} s: {where}."

    def silence(self) -> str:
        """Says that it does not answer, and where it was last."""
        last = f", last at {described(self.heartbeat.place)}" if self.heartbeat else ""
        return f"{self.name} has not answered for {self.age:.0f} s{last}."


class LocalHeartbeat:
    """Makes the heartbeats of this process; each says whether the training has moved.

    It has moved if a phase began or ended, or a batch was read. TensorFlow may trace for minutes
    without either; then, and outside of Keras's calls, another line of Python in the training
    thread counts too. While the worker waits at a rendezvous it does not move.

    Args:
        find: Returns the progress that the training thread writes, or None outside of a call.
        includes_stack: Whether the heartbeats of a worker that has not moved contain its stack.
    """

    def __init__(self, find: Callable[[], Progress | None], includes_stack: bool = True) -> None:
        self._find = find
        self._includes_stack = includes_stack
        self._number = 0
        self._mark: Any = None
        self._moved = time.monotonic()

    def beat(self, end: str = "") -> Heartbeat:
        """Returns a heartbeat.

        Args:
            end: How the `fit` or the program ended, if it has; see `Heartbeat`.
        """
        progress, rendezvous = self._find(), current_rendezvous()
        frames = sys._current_frames()
        thread = threading.main_thread().ident if progress is None else progress.thread
        own = frames.pop(thread, None) if thread is not None else None
        place = OUTSIDE if progress is None else progress.place()
        changes = 0 if progress is None else progress.changes
        is_in_python = progress is None or progress.is_first_execution()
        lines = _lines(own) if is_in_python and rendezvous is None else ()
        mark = (place, changes, lines, rendezvous)
        now = time.monotonic()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        self._number += 1
        still = now - self._moved
        has_stack = self._includes_stack and still >= STACK_SECONDS and not end
        stack = _stacks(own, frames) if has_stack else ""
        question = rendezvous.question if rendezvous is not None else ""
        others = (frame for _, frame in _others(frames))
        activity = doing(place, question, own, others)
        return Heartbeat(self._number, place, round(still, 1), stack, end, activity, question)


def _lines(frame: FrameType | None) -> tuple[tuple[int, int], ...]:
    return tuple((id(f.f_code), line) for f, line in traceback.walk_stack(frame))


def _others(frames: dict[int, FrameType]) -> list[tuple[str, FrameType]]:
    """Returns names and frames of the threads that the training thread may wait for.

    One example is a TensorFlow thread that runs the Python of a generator. The threads of tfscale
    are left out, and Python's threads that wait for work in `threading` or `queue`.
    """
    found = []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, frame in frames.items():
        name = names.get(identity, "a TensorFlow thread")
        is_idle = frame.f_globals.get("__name__") in ("threading", "queue", "selectors")
        if not (name.startswith("tfscale") or (is_idle and identity in names)):
            found.append((name, frame))
    return found


def _stacks(own: FrameType | None, others: dict[int, FrameType]) -> str:
    parts = [_rendered("the training thread", own)] if own else []
    parts += [_rendered(name, frame) for name, frame in _others(others)[:_OTHER_THREADS]]
    return "\n".join(parts)[:_CHARACTERS]


def _rendered(name: str, frame: FrameType) -> str:
    """Renders a stack without the frames inside TensorFlow and Keras, except the innermost."""
    *outer, innermost = traceback.extract_stack(frame)
    outer = [summary for summary in outer if not _INSIDE.search(summary.filename)]
    lines = "".join(traceback.format_list([*outer, innermost][-_FRAMES:]))
    return f"  {name}:\n{lines}".rstrip("\n")
