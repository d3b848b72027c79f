"""What is to be expected of a job: how long it takes, and where its time goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfscale.monitor.time_kinds import Goodput
from tfscale.plan.simulation.job import TrainingJob

_LOW, _HIGH, _NEARLY_ALL = 0.1, 0.9, 0.99


@dataclass(frozen=True, eq=False)
class JobForecast:
    """The course of a job, drawn many times.

    Attributes:
        job: The job.
        seconds_by_kind: Of each kind of `tfscale.monitor.goodput`: the seconds in each repeat,
            float64 [repeats], the mean over workers.
        starts: How often the job was started, in each repeat; int64 [repeats].
    """

    job: TrainingJob
    seconds_by_kind: Mapping[str, npt.NDArray[np.float64]]
    starts: npt.NDArray[np.int64]

    @property
    def repeat_seconds(self) -> npt.NDArray[np.float64]:
        """How long the job takes, in each repeat; float64 [repeats]."""
        return np.asarray(np.sum(list(self.seconds_by_kind.values()), axis=0), np.float64)

    @property
    def seconds(self) -> float:
        """How long the job takes: the mean over repeats."""
        return float(self.repeat_seconds.mean())

    @property
    def low_seconds(self) -> float:
        """One repeat in ten is shorter than this."""
        return float(np.quantile(self.repeat_seconds, _LOW))

    @property
    def high_seconds(self) -> float:
        """One repeat in ten is longer than this."""
        return float(np.quantile(self.repeat_seconds, _HIGH))

    @property
    def goodput(self) -> Goodput:
        """The mean over repeats, as of a job that has run: by kind of time, and its ratio."""
        means = {kind: float(values.mean()) for kind, values in self.seconds_by_kind.items()}
        return Goodput({0: means}, round(float(self.starts.mean())))

    @property
    def restarts(self) -> float:
        """Starts after the first: the mean over repeats."""
        return float(self.starts.mean()) - 1

    @property
    def most_restarts(self) -> int:
        """So many restarts are enough in 99 of 100 repeats: for `--max_restarts`."""
        return int(np.ceil(np.quantile(self.starts, _NEARLY_ALL))) - 1
