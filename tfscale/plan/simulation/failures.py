"""When workers fail, for many repeats of a job at once."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from strategies.extension import number, whole_number
from tfscale.plan.simulation.young_daly import positive_seconds, seconds_from_zero

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Failures:
    """How often workers fail, and how the job goes on: by default as under `tfscale launch`.

    A failure of one worker ends all of them. Once it is noticed the processes are started again
    and restore the newest checkpoint that was written completely.

    Attributes:
        seconds: Mean time between failures of one worker. Positive.
        shape: Of the Weibull distribution of the time from a worker's start, or replacement, to its
            failure. 1: exponential, a constant rate; below 1 new machines fail more often, above 1
            old ones do. Positive.
        detection_seconds: From a failure to the end of the other workers. At least 0. The default
            is that of a host that is lost; a process that ends is noticed at once.
        wait_seconds: From there to the start of the processes, if the hosts are there. At least 0.
        start_seconds: From the start of the processes to the first step, without the restore. At
            least 0.
        restore_seconds: Reading a checkpoint. At least 0. None: as long as a save is written.
        replace_seconds: Until a host that failed is there again, or another in its place. At least
            0; 0: the host itself stays, only the process fails.
        spares: Hosts that wait for one to fail. At least 0.
        least_workers: The job continues with so many workers while hosts are missing, and each
            takes a larger part of the same global batch: `tfscale launch --num_workers=MIN:MAX`.
            When a host is there again, the job saves and restarts with it. None: it waits for all.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> Failures(90 * 86400, replace_seconds=600).detection_seconds
        15.0
    """

    seconds: float
    _: KW_ONLY
    shape: float = 1.0
    detection_seconds: float = 15.0
    wait_seconds: float = 1.0
    start_seconds: float = 30.0
    restore_seconds: float | None = None
    replace_seconds: float = 0.0
    spares: int = 0
    least_workers: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", positive_seconds("seconds", self.seconds))
        shape = number(
            "shape",
            self.shape,
            "from 0.1 to 20",
            lambda value: 0.1 <= value <= 20,
            cure="Pass 1 for failures of a constant rate.",
        )
        object.__setattr__(self, "shape", shape)
        names = ("detection_seconds", "wait_seconds", "start_seconds", "replace_seconds")
        restores = () if self.restore_seconds is None else ("restore_seconds",)
        for name in (*names, *restores):
            object.__setattr__(self, name, seconds_from_zero(name, getattr(self, name)))
        spares = whole_number("spares", self.spares, at_least=0)
        object.__setattr__(self, "spares", spares)
        if self.least_workers is not None:
            whole_number("least_workers", self.least_workers)


class Clocks(Protocol):
    """The next failure of each repeat."""

    def next_failures(self, now: Floats, workers: Integers) -> Floats:
        """Returns when the next worker of each repeat fails, in seconds; infinite if none does.

        Args:
            now: From when on, in seconds.
            workers: How many of them there are then. Positive.
        """

    def failed(self, repeats: npt.NDArray[np.bool_], back: Floats) -> None:
        """Replaces the worker that failed.

        Args:
            repeats: In which a worker failed.
            back: When its place is taken again, in seconds; read where `repeats` is true.
        """


def clocks(
    failures: Failures | None, workers: int, repeats: int, random: np.random.Generator
) -> Clocks:
    """Returns clocks of a job: the same random numbers give the same failures, whatever else."""
    if failures is None:
        return _NoFailures()
    if failures.shape == 1:
        return _ConstantRate(failures.seconds, random)
    return _ByWorker(failures, (repeats, workers), random)


class _NoFailures:
    def next_failures(self, now: Floats, workers: Integers) -> Floats:
        return np.full(now.shape, np.inf)

    def failed(self, repeats: npt.NDArray[np.bool_], back: Floats) -> None:
        pass


class _ConstantRate:
    """Failures without memory: of n workers one fails n times as often."""

    def __init__(self, seconds: float, random: np.random.Generator) -> None:
        self._seconds, self._random = seconds, random

    def next_failures(self, now: Floats, workers: Integers) -> Floats:
        return now + self._random.exponential(self._seconds, now.shape) / workers

    def failed(self, repeats: npt.NDArray[np.bool_], back: Floats) -> None:
        pass


class _ByWorker:
    """Failures that depend on the age of each worker. All are new when the job begins."""

    def __init__(
        self, failures: Failures, shape: tuple[int, int], random: np.random.Generator
    ) -> None:
        self._shape, self._random = failures.shape, random
        self._scale = failures.seconds / math.gamma(1 + 1 / failures.shape)
        self._times = self._lives(shape)

    def _lives(self, shape: tuple[int, ...]) -> Floats:
        return self._scale * self._random.weibull(self._shape, shape)

    def next_failures(self, now: Floats, workers: Integers) -> Floats:
        return np.asarray(np.maximum(self._times.min(axis=1), now))

    def failed(self, repeats: npt.NDArray[np.bool_], back: Floats) -> None:
        lives = self._lives(back.shape)  # for all repeats, so that none changes another one's
        (rows,) = np.nonzero(repeats)
        workers = self._times[rows].argmin(axis=1)
        self._times[rows, workers] = back[rows] + lives[rows]
