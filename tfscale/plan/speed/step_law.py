"""The time of one worker's step without other workers, fitted to measured times.

    t(R, m) = a_R + b_R m

with m rows on each of R replicas: a_R is what every step costs (calling it, updating the weights,
the sum over replicas of one process), b_R what a row costs. Replicas that were measured have their
own a and b. Beyond them

* a grows by the same seconds for each further replica;
* b stays where each replica has an accelerator. Logical CPUs share the cores of one host: once
  there are at least as many replicas as cores, b grows in proportion to the replicas (processor
  sharing: Kleinrock 1976, "Queueing Systems II", section 4.4).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FORMULA = "a + b m for m rows on a replica, fitted to measured steps"


@dataclass(frozen=True)
class StepLaw:
    """A fitted law of the steps of one worker.

    Attributes:
        fixed: Seconds of a step that do not depend on rows, by replicas. Not negative.
        by_row: Seconds of a row of each replica, by replicas. Not negative.
        rows: The smallest and largest number of rows that was measured.
        cores: Cores that the replicas of a worker share; None where each has an accelerator.
        relative_error: The largest of the fit, from 0 on.
        deviation: Relative standard deviation of a measured step, from 0 on.
    """

    fixed: Mapping[int, float]
    by_row: Mapping[int, float]
    rows: tuple[int, int]
    cores: int | None
    relative_error: float = 0.0
    deviation: float = 0.0

    def is_measured(self, replicas: int, rows: float) -> bool:
        """Returns whether that is between what was measured."""
        return replicas in self.fixed and self.rows[0] <= rows <= self.rows[1]

    def parts(self, replicas: int, rows: float) -> tuple[float, float]:
        """Returns the seconds of a step that rows do not change, and those of the rows.

        Args:
            replicas: Of the worker. Positive.
            rows: Of each replica. Positive.

        Example:
            >>> law = StepLaw({1: 1.0, 2: 3.0}, {1: 0.5, 2: 1.0}, (1, 8), cores=2)
            >>> law.parts(2, 10), law.parts(4, 10)
            ((3.0, 10.0), (7.0, 20.0))
        """
        if replicas in self.fixed:
            return self.fixed[replicas], self.by_row[replicas] * rows
        fixed = self._line(self.fixed, replicas)
        if self.cores is None:
            return fixed, self.by_row[self._below(replicas)] * rows
        below = self._below(replicas)
        if below >= self.cores:
            return fixed, self.by_row[below] * replicas / below * rows
        # One replica may spread over all cores or use one; a second one shows which.
        first = self.by_row[min(self.by_row)]
        return fixed, max(self._line(self.by_row, replicas), first * replicas / self.cores) * rows

    def _below(self, replicas: int) -> int:
        return max((n for n in self.fixed if n < replicas), default=min(self.fixed))

    def _line(self, values: Mapping[int, float], replicas: int) -> float:
        """Returns a value on the line through the smallest number and its largest other one."""
        first, below = min(values), self._below(replicas)
        other = below if below > first else min((n for n in values if n > replicas), default=first)
        if other == first:
            return values[first]
        slope = (values[other] - values[first]) / (other - first)
        return max(0.0, values[below] + slope * (replicas - below))


def fitted(seconds: Mapping[tuple[int, int], Sequence[float]], cores: int | None = None) -> StepLaw:
    """Fits the law to measured steps: for each number of replicas a line through the medians.

    Args:
        seconds: Measured seconds of a step by replicas and rows of each; for each number of
            replicas at least two numbers of rows. Positive.
        cores: See `StepLaw`.

    Raises:
        ValueError: If there is too little to fit.

    Example:
        >>> law = fitted({(1, 10): [3.0], (1, 20): [5.0], (1, 40): [9.0]})
        >>> round(law.fixed[1], 6), round(law.by_row[1], 6)
        (1.0, 0.2)
    """
    import numpy as np

    from tfscale.bench.cost_law import non_negative_least_squares

    if not any(replicas == 1 for replicas, _ in seconds):
        raise ValueError(
            f"`seconds` must have steps of 1 replica. Received: {sorted(seconds)}. Measure them."
        )
    fixed, by_row, errors = {}, {}, [0.0]
    for replicas in sorted({count for count, _ in seconds}):
        medians = {
            rows: statistics.median(times)
            for (count, rows), times in seconds.items()
            if count == replicas
        }
        if len(medians) < 2:
            raise ValueError(
                f"`seconds` must have at least 2 numbers of rows for {replicas} replicas. Received:"
                f" {sorted(medians)}. Measure more of them."
            )
        measured = np.array(list(medians.values()), float)
        matrix = np.array([(1.0, rows) for rows in medians]) / measured[:, None]
        found = non_negative_least_squares(matrix, np.ones(len(measured)))
        fixed[replicas], by_row[replicas] = (float(value) for value in found)
        errors += [abs(float(error)) for error in matrix @ found - 1]
    rows = [rows for _, rows in seconds]
    return StepLaw(
        fixed=fixed,
        by_row=by_row,
        rows=(min(rows), max(rows)),
        cores=cores,
        relative_error=max(errors),
        deviation=statistics.median(map(_deviation, seconds.values())) if seconds else 0.0,
    )


def _deviation(times: Sequence[float]) -> float:
    """Returns the relative standard deviation, from the quartiles: a few outliers do not count."""
    if len(times) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 1.349 / middle
