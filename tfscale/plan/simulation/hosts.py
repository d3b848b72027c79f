"""Which hosts of a job are there, for many repeats of it at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfscale.plan.simulation.failures import Failures

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Hosts:
    """The hosts of a job and its spares, of which some are being replaced.

    Args:
        workers: Workers of the job, each on a host of its own.
        failures: How long a replacement takes, how many spares there are, and with how many workers
            the job continues.
        repeats: Repeats of the job.
    """

    def __init__(self, workers: int, failures: Failures, repeats: int) -> None:
        self._workers = workers
        self._least = failures.least_workers or workers
        self._all = workers + failures.spares
        self._replace_seconds = failures.replace_seconds
        self._detection_seconds = failures.detection_seconds
        # When hosts that failed are there again. One of the past has room for the next.
        self._back = np.full((repeats, 1), -np.inf)

    def workers(self, now: Floats, rows: Integers | None = None) -> Integers:
        """Returns how many workers have a host at a time, of some repeats or of all."""
        back = self._back if rows is None else self._back[rows]
        missing = (back > now[:, None]).sum(axis=1)
        return np.asarray(np.minimum(self._workers, self._all - missing), np.int64)

    def when_enough(self, now: Floats, rows: Integers) -> Floats:
        """Returns when there are hosts for the least number of workers: now or later."""
        later = self._later(now, rows)
        missing = np.isfinite(later).sum(axis=1)
        wanted = np.maximum(self._least - (self._all - missing), 0)
        found = later[np.arange(len(rows)), np.maximum(wanted - 1, 0)]
        return np.asarray(np.where(wanted > 0, found, now))

    def next_join(self, now: Floats, rows: Integers) -> Floats:
        """Returns when a host joins that lets the job grow; infinite if it has all workers."""
        can_grow = self.workers(now, rows) < self._workers
        return np.asarray(np.where(can_grow, self._later(now, rows)[:, 0], np.inf))

    def lose(self, is_lost: npt.NDArray[np.bool_], now: Floats) -> Floats:
        """Takes a host away until it is replaced, in some of the repeats.

        Returns:
            When the place of its worker is taken again: at once by a spare, if there is one.
        """
        back = now + self._detection_seconds + self._replace_seconds
        if self._replace_seconds == 0 or not is_lost.any():
            return now
        is_free = self._back <= now[:, None]
        if not is_free[is_lost].any(axis=1).all():
            more = np.full((len(now), 1), -np.inf)
            self._back = np.concatenate([self._back, more], axis=1)
            is_free = self._back <= now[:, None]
        (rows,) = np.nonzero(is_lost)
        self._back[rows, is_free[rows].argmax(axis=1)] = back[rows]
        has_spare = self.workers(now) == self._workers
        return np.asarray(np.where(has_spare, now, back))

    def _later(self, now: Floats, rows: Integers) -> Floats:
        """Returns when hosts are there again, ascending; infinite instead of times of the past."""
        back = self._back[rows]
        return np.asarray(np.sort(np.where(back > now[:, None], back, np.inf), axis=1))
