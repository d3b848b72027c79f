"""Where the training of this process is, for a watch in another thread.

Where there is no watch, a phase is marked by nothing but the test whether there is one. The thread
that trains writes here, and only it; the watch reads. Workers of several have a watch always, see
`watching.wait_notice`; a Watchdog has one of its own.

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

PHASES = ("trace", "input", "step", "collective", "callbacks", "evaluate", "predict", "save")
"""What a worker can be at. "collective" is waiting for other workers, in the step's all-reduce and
in the meetings between steps; "callbacks" is all Python between steps; "trace" is the first
execution of the training or evaluation step, until its input is read."""

_EXECUTING = ("step", "evaluate", "predict")


class Marks(NamedTuple):
    """What the graph tells.

    Attributes:
        input: Seconds spent reading input in graphs; negative while it is being read.
        collective: Seconds spent in collectives in graphs; negative while in one. Marks that tell
            no time leave both at zero, or negative.
        batches: Batches read.
    """

    input: float
    collective: float
    batches: int


class Clock(Protocol):
    """The marks that executions leave; see `keras_support.step_clock`."""

    def read(self) -> Marks:
        """Returns the marks as they are now; called from any thread."""

    def reset(self) -> None:
        """Ends every phase and forgets its seconds; batches are counted on."""


class NoMarks:
    """The clock of graphs without marks."""

    def read(self) -> Marks:
        """Returns no marks."""
        return Marks(0.0, 0.0, 0)

    def reset(self) -> None:
        """Has nothing to forget."""


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Attributes:
        epoch: From 0.
        step: Batches of the epoch that were read.
        phase: One of `PHASES`, or "outside" of any call.
        batch: Batches that the evaluation or prediction at hand has read, or None outside of one.
        call: The outermost call of Keras: "fit", "evaluate" or "predict".
    """

    epoch: int
    step: int
    phase: str
    batch: int | None = None
    call: str = "fit"


OUTSIDE = Place(0, 0, "outside", call="")
"""Where a worker is that is in no call of Keras."""


class Progress:
    """The progress of one `fit`, or of an `evaluate` or `predict` outside of one.

    Args:
        clock: The marks of the model's graphs.
        end: Called when the `fit` is over, with the error that ended it, or None.
        call: "fit", "evaluate" or "predict".

    Attributes:
        thread: Identity of the thread that trains.
        changes: Grows with every sign of life that Python sees.
    """

    def __init__(
        self, clock: Clock, end: Callable[[BaseException | None], None], call: str = "fit"
    ) -> None:
        self.end = end
        self._call = call
        self.thread = threading.get_ident()
        self.changes = 0
        self._clock = clock
        self._epoch = 0
        self._phases = ["callbacks"]
        self._since = time.monotonic()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._settled = clock.read()
        self._finished: set[str] = set()
        self._batches = 0
        self._begun = (0, self._all_batches())
        self._aside: int | None = None
        self._is_numbered = False

    def begin_epoch(self, epoch: int) -> None:
        """Notes the epoch, from 0."""
        self._epoch = epoch
        self._is_numbered = False
        self._begun = (0, self._all_batches())

    def begin_execution(self, step: int) -> None:
        """Notes the number of the epoch's first step, which is not 0 where training resumed.

        Later ones are counted: to ask the clock would cost a step more than all its marks.
        """
        if not self._is_numbered:
            self._begun = (step, self._all_batches())
            self._is_numbered = True

    def place(self) -> Place:
        """Returns where the training is now; may be called from any thread."""
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
        """Tells whether TensorFlow may be tracing: no execution of this kind is over yet."""
        phases = self._phases
        return any(phase in _EXECUTING and phase not in self._finished for phase in phases)

    def take_seconds(self) -> dict[str, float]:
        """Returns the seconds of each phase since the last call, without those inside another."""
        self._settle("step")
        self._turn()
        taken, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Marks what is inside as `phase`; see `phase`."""
        is_aside = phase in ("evaluate", "predict") and self._aside is None
        if is_aside:
            self._settle("step")
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
                self._settled = self._clock.read()
            raise
        finally:
            self._turn()
            self._phases.pop()
            if is_aside and self._aside is not None:
                self._settle(phase)
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

    def _settle(self, around: str) -> None:
        """Takes the seconds that graphs spent in their phases from those of the phase around."""
        marks, before = self._clock.read(), self._settled
        for phase, seconds in (
            ("input", marks.input - before.input),
            ("collective", marks.collective - before.collective),
        ):
            self._seconds[phase] += seconds
            self._seconds[around] -= seconds
        self._settled = marks


_watched: Progress | None = None


def watch(progress: Progress) -> None:
    """Lets `progress` be written from now on, to the end of the `fit` that we are in."""
    global _watched
    _watched = progress


class _Ends(threading.local):
    def __init__(self) -> None:
        self.of_fit: list[Callable[[], None]] = []


_ENDS = _Ends()


def at_end_of_fit(end: Callable[[], None]) -> None:
    """Has `end` called when the `fit` that this thread is in is over, also where it fails.

    Args:
        end: Called in the thread of the `fit`, after the callbacks' `on_train_end`.
    """
    _ENDS.of_fit.append(end)


def watched() -> Progress | None:
    """Returns the progress that is being written, or None where there is no watch."""
    return _watched


@contextlib.contextmanager
def followed(clock: Clock, call: str) -> Iterator[None]:
    """Stands around a call of Keras, whose progress is written unless an outer one's is.

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
    """Tells whether no other watch, such as a Watchdog, follows the call that we are in."""
    progress = _watched
    return progress is None or progress.end is _ended


def _ended(error: BaseException | None) -> None:
    """The end of a call that no other watch follows."""


@contextlib.contextmanager
def whole_fit() -> Iterator[None]:
    """Stands around a `fit`: ends the watch that began inside of it, also where it fails."""
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
    """Marks what is inside, on the thread that trains, as one of `PHASES`.

    Args:
        name: The phase; its seconds are not those of the phase around it.

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
    """Says, from any thread, that long work goes on: one more file written, one more row read."""
    if _watched is not None:
        _watched.changes += 1
