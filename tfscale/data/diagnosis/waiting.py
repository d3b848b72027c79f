"""The part of training that waits for input, from the times of the workers of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfscale.data.diagnosis.diagnosis import FAST_SECONDS, WAITING_PART


@dataclass(frozen=True)
class Window:
    """What one worker measured over some steps.

    Attributes:
        steps: Steps that were done. Positive.
        seconds: Wall time of them, without evaluation and saving. Positive.
        input: The part of it in which the worker waited for its own input, in seconds.
        computing: Seconds that as many steps take if nothing is read ahead and the wait is left
            out; None if calls return when the step is done, as on CPUs.
    """

    steps: int
    seconds: float
    input: float
    computing: float | None = None

    @property
    def waiting(self) -> float:
        """The part of the time that is lost to input, in [0, 1].

        A device that computes while its host waits loses nothing. So it is at most the part that
        the host waits, and at most what the computation leaves.
        """
        waits = self.input / self.seconds
        if self.computing is not None:
            waits = min(waits, 1.0 - self.computing / self.seconds)
        return min(1.0, max(0.0, waits))


@dataclass(frozen=True)
class Waiting:
    """What a job waits for.

    Attributes:
        part: The part of the time in which the job waits for the input of its slowest worker, in
            [0, 1].
        worker: The index of that worker.
        is_input_bound: Whether a faster input would help.
        text: A sentence with the figures.
    """

    part: float
    worker: int
    is_input_bound: bool
    text: str


def waiting_of(windows: Sequence[Window]) -> Waiting:
    """Returns what a job waits for.

    Workers wait for each other in every step, so that the one whose input is slowest delays all.

    Args:
        windows: Of each worker in order, over the same steps. At least one.

    Example:
        >>> waiting_of([Window(10, 2.0, 1.0)]).text
        'input-bound: 50% of the time waits for input: 100 of 200 ms a step'
        >>> waiting_of([Window(10, 2.0, 0.02)]).text
        'compute-bound: 1% of the time waits for input: 2 of 200 ms a step'
    """
    worker = max(range(len(windows)), key=lambda index: windows[index].waiting)
    slowest = windows[worker]
    part, step = slowest.waiting, slowest.seconds / slowest.steps
    is_input_bound = part >= WAITING_PART and step >= FAST_SECONDS
    if is_input_bound:
        kind = "input-bound"
    else:
        kind = "compute-bound" if part < WAITING_PART else "short steps"
    times = f"{1e3 * part * step:.3g} of {1e3 * step:.3g} ms a step"
    where = ""
    if len(windows) > 1:
        others = max(other.waiting for index, other in enumerate(windows) if index != worker)
        where = f", on worker {worker}; at most {others:.0%} on the others"
    text = f"{kind}: {part:.0%} of the time waits for input: {times}{where}"
    return Waiting(part, worker, is_input_bound, text)
