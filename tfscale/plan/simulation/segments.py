"""What a job does between two starts: steps and saves, until it is done, fails or stops."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfscale.plan.simulation.job import TrainingJob
from tfscale.plan.simulation.stragglers import Rounds

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_FIELDS = ("trained", "lost", "saving", "position", "seconds", "is_done")
_MOST_VALUES = 1_000_000  # of an array: 8 MB
_SPARE_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Pace:
    """How fast a job is with some of its workers.

    Attributes:
        rounds: How much longer the slowest worker takes than a typical one.
        input_seconds: Seconds of a step in which workers wait for data.
        communication_seconds: Seconds of a step in which they reduce gradients.
        compute_seconds: Seconds of a step of a typical worker, which stragglers lengthen.
        stretch: How many times as long a step takes because workers are missing, in asynchronous
            training.
        steps_between_averages: Steps of a round.
    """

    rounds: Rounds
    input_seconds: float
    communication_seconds: float
    compute_seconds: float
    stretch: float = 1.0
    steps_between_averages: int = 1

    @property
    def mean_step(self) -> float:
        """The mean seconds of a step."""
        slowest = self.compute_seconds * self.rounds.mean / self.steps_between_averages
        return (self._fixed + slowest) * self.stretch

    @property
    def _fixed(self) -> float:
        return self.input_seconds + self.communication_seconds

    @property
    def own_compute(self) -> float:
        """The mean seconds of a step in which a worker computes."""
        return self.compute_seconds * self.rounds.own_mean / self.steps_between_averages

    def segments(self, random: np.random.Generator, shape: tuple[int, ...], steps: float) -> Floats:
        """Draws the seconds of segments of so many steps."""
        count = steps / self.steps_between_averages
        slowest = self.compute_seconds * self.rounds.sums(random, shape, count)
        return np.asarray((self._fixed * steps + slowest) * self.stretch)


@dataclass(frozen=True, eq=False)
class Run:
    """The time from the first step after a start to its end, for each repeat.

    Attributes:
        trained: Seconds of steps that are kept.
        lost: Seconds of steps that the next start repeats.
        saving: Seconds in which training stood still for a save.
        position: Steps of the training that are kept.
        seconds: All of it.
        is_done: Whether the training is complete, with its last save.
    """

    trained: Floats
    lost: Floats
    saving: Floats
    position: Floats
    seconds: Floats
    is_done: Flags


def run_from(
    job: TrainingJob,
    pace: Pace,
    position: Floats,
    until: Floats,
    is_saved: Flags,
    random: np.random.Generator,
) -> Run:
    """Draws what happens after a start.

    Args:
        job: The job.
        pace: How fast it is.
        position: Steps that are done, by repeat.
        until: Seconds after the first step at which the start ends, if the training does not end
            before. Infinite if nothing ends it.
        is_saved: Whether it then saves and stops, rather than fails.
        random: Where random numbers come from.
    """
    # Many short segments of many repeats: some repeats at a time.
    cycle = max(job.every * pace.mean_step, job.saves.seconds - job.saves.taken)
    cycle += job.saves.taken
    columns = np.minimum(_segments_left(job, position), until / cycle + _SPARE_COLUMNS)
    widest = max(1.0, float(columns.max()))
    at_once = max(1, int(_MOST_VALUES / widest))
    parts = [
        _run(job, pace, position[rows], until[rows], is_saved[rows], random, cycle)
        for rows in (slice(i, i + at_once) for i in range(0, len(position), at_once))
    ]
    return Run(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def _segments_left(job: TrainingJob, position: Floats) -> Floats:
    """Returns how often the training saves until its end: at multiples of `every`, and there."""
    passed = np.floor(position / job.every + 1e-9)
    return np.asarray(math.ceil(job.steps / job.every) - passed)


def _run(
    job: TrainingJob,
    pace: Pace,
    position: Floats,
    until: Floats,
    is_saved: Flags,
    random: np.random.Generator,
    cycle: float,
) -> Run:
    left = _segments_left(job, position)
    steps, seconds, ends = _drawn(job, pace, (position, left), until, random, cycle)
    write, taken = job.saves.seconds, job.saves.taken
    rows = np.arange(len(position))
    ended = (ends <= until[:, None]).sum(axis=1)
    kept = (ends + write <= until[:, None]).sum(axis=1)
    is_done = kept == left
    trained = np.concatenate([np.zeros((len(rows), 1)), seconds.cumsum(axis=1)], axis=1)
    # What an unfinished segment has got, after the part of a save in which training stands still.
    begun = np.where(ended > 0, ends[rows, np.maximum(ended - 1, 0)] + taken, 0.0)
    is_inside = (ended < left) & ~is_done
    place = np.minimum(ended, seconds.shape[1] - 1)
    rest = np.where(is_inside, until - begun, 0.0)
    rest = np.minimum(np.maximum(rest, 0.0), seconds[rows, place])
    total = trained[rows, ended] + rest
    stops = is_saved & ~is_done
    last = ends[rows, np.minimum(left.astype(int), ends.shape[1]) - 1] + write
    whole = np.where(is_done, last, until)
    # To stop it waits for the save that is being written, and for its own.
    pending = np.where(ended > kept, ends[rows, np.maximum(ended - 1, 0)] + write - until, 0.0)
    whole = whole + np.where(stops, pending + write, 0.0)
    productive = np.where(stops, total, trained[rows, kept])
    done_steps = np.concatenate([np.zeros((len(rows), 1)), steps.cumsum(axis=1)], axis=1)
    reached = position + done_steps[rows, kept]
    inside = position + done_steps[rows, ended]
    inside += (
        rest * np.divide(steps, seconds, out=np.zeros_like(steps), where=steps > 0)[rows, place]
    )
    return Run(
        trained=productive,
        lost=total - productive,
        saving=whole - total,
        position=np.where(stops, np.minimum(inside, job.steps), reached),
        seconds=whole,
        is_done=is_done,
    )


def _drawn(
    job: TrainingJob,
    pace: Pace,
    place: tuple[Floats, Floats],
    until: Floats,
    random: np.random.Generator,
    cycle: float,
) -> tuple[Floats, Floats, Floats]:
    """Draws segments until each repeat is done or its start has ended.

    Returns:
        Steps and seconds of each segment, and when it ended; infinite beyond the last one.
    """
    position, left = place
    first = np.floor(position / job.every + 1e-9)
    parts: list[tuple[Floats, Floats, Floats]] = []
    before, drawn = np.zeros(len(position)), 0
    while True:
        open_rows = (before <= until) & (drawn < left)
        if parts and not open_rows.any():
            break
        wanted = np.minimum(left - drawn, (until - before) / cycle * 1.02 + _SPARE_COLUMNS)
        count = max(1, int(wanted[open_rows].max(initial=1)))
        number = first[:, None] + drawn + np.arange(count)
        begins = np.maximum(number * job.every, position[:, None])
        steps = np.minimum((number + 1) * job.every, job.steps) - begins
        steps = np.where(drawn + np.arange(count) < left[:, None], steps, 0.0)
        seconds = pace.segments(random, steps.shape, job.every) * (steps / job.every)
        cycles = np.maximum(job.saves.taken + seconds, job.saves.seconds)
        if not parts:
            cycles[:, 0] = seconds[:, 0]  # no save comes before the first
        ends = before[:, None] + cycles.cumsum(axis=1)
        before = ends[:, -1]
        ends = np.where(drawn + np.arange(count) < left[:, None], ends, np.inf)
        parts.append((steps, seconds, ends))
        drawn += count
    steps, seconds, ends = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    return steps, seconds, ends
