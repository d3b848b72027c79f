"""The progress of training in this process, read by another thread.

Only the training thread writes; the watch reads. Without a watch, marking a phase costs one test.
Jobs of several workers always have a watch, see `liveness.wait_notice`; a Watchdog has another one.

    with phase("save"):
        write(state)
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

PHASES = (
    *("trace", "input", "step", "collective", "callbacks", "evaluate", "predict", "save"),
    "restore",
)
"""Phases of a worker. "collective" is waiting for other workers, in the all-reduce of a step or at
a rendezvous between steps; "callbacks" is all Python between steps; "trace" is the first execution
of the training or evaluation step, until its input is read."""

_ASIDE = ("evaluate", "predict")
_EXECUTING = ("step", *_ASIDE)
_AT_ONCE_SECONDS, _MOST_READINGS = 2e-3, 5
"""Another thread reads again if its reading took longer, at most so often."""


class Marks(NamedTuple):
    """What the graph has recorded.

    Attributes:
        input: Seconds spent reading input in graphs; negative while it is being read.
        collective: Seconds spent in collectives in graphs; negative while in one. Marks without
            times leave both at zero, or negative.
        batches: Batches read.
        examples: Examples of this worker that were read; 0 for marks without times.
    """

    input: float
    collective: float
    batches: int
    examples: int = 0


class Clock(Protocol):
    """The marks of executions; see `keras_support.patching.step_clock`.

    Attributes:
        is_timed: Whether seconds are measured, or only the current phase.
    """

    @property
    def is_timed(self) -> bool:
        """Whether seconds are measured."""

    def read(self) -> Marks:
        """Returns the current marks; called from any thread."""

    def reset(self) -> None:
        """Ends every phase and discards its seconds; the count of batches continues."""


class NoMarks:
    """The clock of graphs without marks."""

    is_timed = False

    def read(self) -> Marks:
        """Returns no marks."""
        return Marks(0.0, 0.0, 0)

    def reset(self) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Attributes:
        epoch: From 0.
        step: Batches of the epoch that were read.
        phase: One of `PHASES`, or "outside" of any call.
        batch: Batches read by the current evaluation or prediction, or None outside of one.
        call: The outermost call of Keras: "fit", "evaluate" or "predict".
    """

    epoch: int
    step: int
    phase: str
    batch: int | None = None
    call: str = "fit"


OUTSIDE = Place(0, 0, "outside", call="")
"""The place of a worker outside of any call of Keras."""


class Progress:
    """The progress of one `fit`, or of an `evaluate` or `predict` outside of one.

    Args:
        clock: The marks of the model's graphs.
        end: Called when the `fit` is over, with the error that ended it, or None.
        call: "fit", "evaluate" or "predict".

    Attributes:
        thread: Identity of the training thread.
        changes: Grows with every sign of progress that Python sees.
        is_shared: Whether several callbacks read its seconds, see `timed_progress`.
    """

    def __init__(
        self, clock: Clock, end: Callable[[BaseException | None], None], call: str = "fit"
    ) -> None:
        self.end = end
        self._call = call
        self.thread = threading.get_ident()
        self.changes = 0
        self.is_shared = False
        self._clock = clock
        self._epoch = 0
        self._phases = ["callbacks"]
        self._since = time.monotonic()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._taken = dict(self._seconds)
        self._accounted = clock.read()
        self._finished: set[str] = set()
        self._batches = 0
        self._examples = 0
        self._begun = (0, self._all_batches())
        self._aside: int | None = None
        self._is_numbered = False

    def begin_epoch(self, epoch: int) -> None:
        """Records the epoch, from 0."""
        self._epoch = epoch
        self._is_numbered = False
        self._begun = (0, self._all_batches())

    def begin_execution(self, step: int) -> None:
        """Records the number of the first step of the epoch, which is not 0 after a resume.

        Later ones are counted, because reading the clock would cost a step more than all its marks.
        """
        if not self._is_numbered:
            self._begun = (step, self._all_batches())
            self._is_numbered = True

    def place(self) -> Place:
        """Returns where the training is now. Any thread may call it."""
        marks, phase = self._clock.read(), self._phases[-1]
        batches, aside, (step, begun) = self._batches + marks.batches, self._aside, self._begun
        if phase in _EXECUTING:
            if marks.collective < 0:
                phase = "collective"
            elif marks.input < 0:
                phase = "input"
            elif phase not in self._finished and batches == (begun if aside is None else aside):
                phase = "trace"
        read = (batches if aside is None else aside) - begun
        batch = None if aside is None else batches - aside
        return Place(self._epoch, step + read, phase, batch, self._call)

    def is_first_execution(self) -> bool:
        """Returns whether TensorFlow may be tracing: no execution of this kind has finished yet."""
        phases = self._phases
        return any(phase in _EXECUTING and phase not in self._finished for phase in phases)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each phase so far, without those inside another."""
        self._account(next((p for p in self._phases if p in _ASIDE), "step"))
        self._turn()
        return dict(self._seconds)

    @property
    def moment(self) -> float:
        """When `seconds` was called last, on the clock of `time.monotonic`."""
        return self._since

    def seconds_until_now(self) -> dict[str, float]:
        """Returns what `seconds` would, with what the current phase has taken so far.

        Any thread may call it. Nothing is recorded, so `examples` does not change.
        """
        for _ in range(_MOST_READINGS):  # what it reads must be of one moment
            began, before = time.monotonic(), (self.changes, self._accounted)
            marks, phases, found = self._clock.read(), list(self._phases), dict(self._seconds)
            found[phases[-1]] += time.monotonic() - self._since
            # A mark below zero is a phase that is running: its seconds minus when it began.
            reading, waiting = (each + time.time() * (each < 0) for each in marks[:2])
            marks = marks._replace(input=reading, collective=waiting)
            self._divide(found, marks, next((each for each in phases if each in _ASIDE), "step"))
            is_at_once = time.monotonic() - began < _AT_ONCE_SECONDS
            if is_at_once and before == (self.changes, self._accounted):
                break
        return found

    def examples(self) -> int:
        """Returns the examples that this worker had read when `seconds` was called last.

        Those of evaluations and predictions count too. They are counted from when the clock began.
        """
        return self._examples + self._accounted.examples

    def note_examples(self, examples: int) -> None:
        """Counts examples of this worker that Python has read."""
        self._examples += examples

    @property
    def is_timed(self) -> bool:
        """Whether the clock of its graphs measures seconds."""
        return self._clock.is_timed

    def take_seconds(self) -> dict[str, float]:
        """Returns the seconds of each phase since the last call, without those inside another."""
        before, self._taken = self._taken, self.seconds()
        return {phase: self._taken[phase] - before[phase] for phase in PHASES}

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Marks the block as a phase; see `phase`."""
        is_aside = phase in _ASIDE and self._aside is None
        if is_aside:
            self._account("step")
            self._aside = self._all_batches()
        self._turn()
        self._phases.append(phase)
        try:
            yield
            self._finished.add(phase)
            self._batches += phase == "input"
        except BaseException:
            marks = self._clock.read()
            if marks.input < 0 or marks.collective < 0:  # a failed execution left one open
                self._clock.reset()
                self._accounted = self._clock.read()
            raise
        finally:
            self._turn()
            self._phases.pop()
            if is_aside and self._aside is not None:
                self._account(phase)
                step, begun = self._begun
                self._begun = (step, begun + self._all_batches() - self._aside)
                self._aside = None

    def _all_batches(self) -> int:
        return self._batches + self._clock.read().batches

    def _turn(self) -> None:
        now = time.monotonic()
        self._seconds[self._phases[-1]] += now - self._since
        self._since = now
        self.changes += 1

    def _account(self, around: str) -> None:
        """Moves the seconds that graphs spent in their phases out of the surrounding phase."""
        marks, found = self._clock.read(), dict(self._seconds)
        self._divide(found, marks, around)
        self._seconds, self._accounted = found, marks  # at once, for other threads

    def _divide(self, found: dict[str, float], marks: Marks, around: str) -> None:
        for phase in ("input", "collective"):
            seconds = getattr(marks, phase) - getattr(self._accounted, phase)
            found[phase] += seconds
            found[around] -= seconds


_watched: Progress | None = None


def watch(progress: Progress) -> None:
    """Records in `progress` from now on, until the current `fit` ends."""
    global _watched
    _watched = progress


class _Ends(threading.local):
    def __init__(self) -> None:
        self.of_fit: list[Callable[[], None]] = []


_ENDS = _Ends()


def at_end_of_fit(end: Callable[[], None]) -> None:
    """Calls `end` when the current `fit` of this thread is over, also if it fails.

    Args:
        end: Called in the same thread, after the callbacks' `on_train_end`.
    """
    _ENDS.of_fit.append(end)


def watched() -> Progress | None:
    """Returns the progress that is being recorded, or None without a watch."""
    return _watched


@contextlib.contextmanager
def followed(clock: Clock, call: str) -> Iterator[None]:
    """Records the progress of a call of Keras, unless that of an outer call is recorded.

    Args:
        clock: The marks of the model's graphs.
        call: "fit", "evaluate" or "predict".
    """
    global _watched
    if _watched is not None:
        yield
        return
    _watched = Progress(clock, _ended, call)
    try:
        yield
    finally:
        _watched = None


def followed_by_default() -> bool:
    """Returns whether no other watch, such as a Watchdog, follows the current call."""
    progress = _watched
    return progress is None or progress.end is _ended


def timed_progress(clock: Clock) -> Progress:
    """Returns what records the current `fit`, with seconds: a Watchdog's, or one with `clock`.

    Args:
        clock: The marks of the model's graphs, which measure seconds.
    """
    global _watched
    if followed_by_default() and not (_watched is not None and _watched.is_shared):
        _watched = Progress(clock, _ended)
        _watched.is_shared = True
    assert _watched is not None
    return _watched


def timed() -> Progress | None:
    """Returns what records the current `fit` with seconds, for its training thread, or None."""
    progress = _watched
    if progress is None or not progress.is_timed or progress.thread != threading.get_ident():
        return None
    return progress


def _ended(error: BaseException | None) -> None:
    """The end of a call that no other watch follows."""


@contextlib.contextmanager
def whole_fit() -> Iterator[None]:
    """Surrounds a `fit`: ends the watch that began inside it, also if it fails."""
    global _watched
    before, error = _watched, None
    outer, _ENDS.of_fit = _ENDS.of_fit, []
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        ends, _ENDS.of_fit = _ENDS.of_fit, outer
        if _watched is not None and _watched is not before:
            progress, _watched = _watched, before
            progress.end(error)
        for end in reversed(ends):
            end()


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Marks the block as one of `PHASES`, if this is the training thread.

    Args:
        name: The phase. Its seconds do not count for the surrounding phase.

    Example:
        >>> with phase("save"):
        ...     pass
    """
    progress = _watched
    if progress is None or progress.thread != threading.get_ident():
        yield
        return
    with progress.during(name):
        yield


def moved() -> None:
    """Reports, from any thread, that long work progresses: another file written or row read."""
    if _watched is not None:
        _watched.changes += 1
