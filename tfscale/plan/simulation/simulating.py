"""Draws the course of a job many times: stragglers, saves, failures, restarts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from strategies.extension import whole_number
from tfscale.monitor.time_kinds import KINDS
from tfscale.plan.simulation.failures import Failures, clocks
from tfscale.plan.simulation.forecast import JobForecast
from tfscale.plan.simulation.hosts import Hosts
from tfscale.plan.simulation.job import TrainingJob
from tfscale.plan.simulation.segments import Pace, run_from

Floats = npt.NDArray[np.float64]

MOST_STARTS = 20_000
MOST_SAVES = 200_000_000
"""Of all repeats together: some 20 s."""
"""A job that starts more often makes no progress worth simulating."""


def simulate_job(job: TrainingJob, *, repeats: int = 100, seed: int = 0) -> JobForecast:
    """Draws the course of a job many times, and returns how long it takes and where the time goes.

    The next failure, the segments of training between saves, and the newest save that was complete
    by then are drawn for all repeats at once, start by start. What was trained since is lost. The
    failure is noticed, and all workers start again and restore; another failure may come during
    that. Which failures a repeat meets depends on `seed`, not on how often the job saves: jobs that
    differ in that are compared under the same ones.

    Args:
        job: The job.
        repeats: How often its course is drawn. Positive.
        seed: Of the random numbers. From 0 to 2^63 - 1.

    Raises:
        ValueError: If an argument is out of range, or the job fails so often that it needs more
            than 20,000 starts, or has more than 200 million saves in all repeats.

    Example:
        >>> job = TrainingJob(
        ...     steps=100_000, step_seconds=0.5, workers=64, saves=tfscale.plan.Saves(30.0),
        ...     failures=Failures(30 * 86400),
        ... )
        >>> forecast = simulate_job(job, repeats=20)
        >>> 0.9 < forecast.goodput.ratio < 1
        True
    """
    check_job(job)
    repeats = whole_number("repeats", repeats)
    seed = whole_number("seed", seed, at_least=0)
    saves = repeats * math.ceil(job.steps / job.every)
    if saves > MOST_SAVES:
        raise ValueError(
            f"`repeats` must be such that at most {MOST_SAVES:,} saves are drawn. Received: "
            f"repeats={repeats}, and a job of {saves // repeats:,} saves. Pass less, or a job that "
            "is shorter or saves less often."
        )
    return _Course(job, repeats, seed).forecast()


def check_job(job: object) -> None:
    """Checks the argument of that name.

    Raises:
        ValueError: If it is no `TrainingJob`.
    """
    if not isinstance(job, TrainingJob):
        raise ValueError(
            f"`job` must be of the class TrainingJob. Received: job={job!r}. Make one with "
            "tfscale.plan.TrainingJob."
        )


class _Course:
    """All repeats of a job, which advance by one start at a time."""

    def __init__(self, job: TrainingJob, repeats: int, seed: int) -> None:
        failing, stepping = np.random.SeedSequence(seed).spawn(2)
        self._job = job
        self._size = job.critical_workers
        # Without failures nothing of it but the time of the start is read.
        self._failures = job.failures or Failures(1.0)
        self._random = np.random.default_rng(stepping)
        self._clocks = clocks(job.failures, self._size, repeats, np.random.default_rng(failing))
        self._paces: dict[int, Pace] = {}
        self._now = np.zeros(repeats)
        self._position = np.zeros(repeats)
        self._hosts = Hosts(self._size, self._failures, repeats)
        self._has_failed = np.zeros(repeats, bool)  # whether a failure ended the last start
        self._is_done = np.zeros(repeats, bool)
        self._starts = np.zeros(repeats, np.int64)
        self._seconds = {kind: np.zeros(repeats) for kind in KINDS}

    def forecast(self) -> JobForecast:
        """Draws the whole course of all repeats."""
        while not self._is_done.all():
            if self._starts.max() >= MOST_STARTS:
                done = float(self._position[~self._is_done].min()) / self._job.steps
                raise ValueError(
                    "`failures` must leave the job time to reach a save. Received: "
                    f"{self._failures!r}, and after {MOST_STARTS} starts {done:.1%} of the steps "
                    "are done. Save more often or faster, or use fewer workers."
                )
            self._start()
        return JobForecast(self._job, self._seconds, self._starts)

    def _start(self) -> None:
        """Advances all repeats that are not done by one start."""
        stop = self._failures.detection_seconds + self._failures.wait_seconds
        ready = self._now + np.where(self._has_failed, stop, 0.0)
        ready = self._hosts.when_enough(ready, np.arange(len(ready)))
        # Drawn for all repeats, so that the failures of one do not depend on when others are done.
        # While no worker is there none fails.
        there = self._hosts.workers(self._now)
        since = np.where(there > 0, self._now, ready)
        failures = self._clocks.next_failures(since, np.maximum(there, 1))
        (rows,) = np.nonzero(~self._is_done)
        begin, ready, failure = self._now[rows], ready[rows], failures[rows]
        workers = self._hosts.workers(ready, rows)
        start = self._failures.start_seconds
        restore = np.where(self._position[rows] > 0, self._job.restore_seconds, 0.0)
        first_step = ready + start + restore
        join = np.maximum(self._hosts.next_join(ready, rows), first_step)
        self._starts[rows] += 1
        self._seconds["stopped"][rows] += np.minimum(ready, failure) - begin
        self._seconds["start"][rows] += np.clip(failure - ready, 0.0, start)
        self._seconds["restore"][rows] += np.clip(failure - ready - start, 0.0, restore)
        self._now[rows] = np.minimum(first_step, failure)
        until = np.minimum(failure, join) - first_step
        for size in np.unique(workers):
            here = (workers == size) & (until >= 0)
            if here.any():
                self._train(rows[here], int(size), until[here], (join < failure)[here])
        self._has_failed[rows] = (failure <= join) & ~self._is_done[rows]
        fails = self._has_failed & ~self._is_done
        back = self._hosts.lose(fails, self._now)
        self._clocks.failed(fails, back)

    def _train(
        self, rows: npt.NDArray[np.int64], size: int, until: Floats, is_saved: npt.NDArray[np.bool_]
    ) -> None:
        """Lets repeats with so many workers train until they are done or something ends the start.

        Args:
            rows: The repeats.
            size: Workers.
            until: Seconds until something ends the start.
            is_saved: Whether that is a host that joins, after a save.
        """
        pace = self._paces.setdefault(size, self._pace(size))
        run = run_from(self._job, pace, self._position[rows], until, is_saved, self._random)
        self._now[rows] += run.seconds
        self._position[rows] = run.position
        self._is_done[rows] = run.is_done
        self._seconds["save"][rows] += run.saving
        self._seconds["lost_work"][rows] += run.lost
        for kind, part in self._parts(pace).items():
            self._seconds[kind][rows] += run.trained * part

    def _pace(self, size: int) -> Pace:
        job, failures = self._job, self._failures
        if job.parameter_servers:
            missing = failures.detection_seconds + failures.wait_seconds + failures.start_seconds
            missing += failures.replace_seconds
            return Pace(
                rounds=job.stragglers.rounds(workers=1),
                input_seconds=job.input_seconds,
                communication_seconds=job.communication_seconds,
                compute_seconds=job.compute_seconds,
                stretch=1.0 if job.failures is None else 1 + missing / failures.seconds,
            )
        return Pace(
            rounds=job.stragglers.rounds(workers=size, steps=job.steps_between_averages),
            input_seconds=job.input_seconds,
            communication_seconds=job.communication_seconds,
            # Fewer workers share the same global batch.
            compute_seconds=job.compute_seconds * self._size / size,
            steps_between_averages=job.steps_between_averages,
        )

    def _parts(self, pace: Pace) -> dict[str, float]:
        """Returns what part of the time of a step is of which kind, the mean over workers."""
        step, whole = pace.own_compute, pace.mean_step
        stopped = whole * (1 - 1 / pace.stretch)
        waiting = whole - stopped - step - pace.input_seconds
        seconds = {
            "step": step,
            "input_wait": pace.input_seconds,
            "waiting_for_workers": waiting,
            "stopped": stopped,
        }
        return {kind: value / whole for kind, value in seconds.items()}
