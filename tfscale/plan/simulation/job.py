"""A training job as it is simulated: its steps, its saves, and what may go wrong."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY, dataclass, field

from strategies.extension import number, whole_number
from tfscale.plan.simulation.failures import Failures
from tfscale.plan.simulation.stragglers import Stragglers
from tfscale.plan.simulation.young_daly import (
    checkpoint_interval,
    positive_seconds,
    seconds_from_zero,
)

TAKEN_BY_A_SAVE = 0.31
"""What `tfscale.callbacks.Checkpoint` takes from training, as a part of the time until a save is
written. Measured on a host whose processors the training uses fully: docs/howto/checkpoints.md."""


@dataclass(frozen=True)
class Saves:
    """How long a save takes and how often there is one: `Checkpoint(every=)`.

    A save is written beside the next steps. Until then a restart uses the one before, and the next
    save waits. At the end of training, and when hosts join, the job waits for its last save.

    Attributes:
        seconds: From the beginning of a save until it is written. At least 0.
        taken_seconds: How much of it training stands still. From 0 to `seconds`; equal to it if
            saves are not asynchronous. None: `0.31 * seconds`, as measured on CPUs.
        every: Steps from one save to the next. Positive. None: by Daly's formula
            (`checkpoint_interval`), but no more often than saves can be written; without failures
            only at the end.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> Saves(60.0).taken_seconds
        18.6
    """

    seconds: float
    _: KW_ONLY
    taken_seconds: float | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        seconds = seconds_from_zero("seconds", self.seconds)
        object.__setattr__(self, "seconds", seconds)
        taken = TAKEN_BY_A_SAVE * seconds if self.taken_seconds is None else self.taken_seconds
        taken = number(
            "taken_seconds",
            taken,
            f"from 0 to `seconds`, {seconds:g}",
            lambda value: 0 <= value <= seconds,
            cure="Pass the seconds of a save in which no step is computed.",
        )
        object.__setattr__(self, "taken_seconds", taken)
        if self.every is not None:
            object.__setattr__(self, "every", whole_number("every", self.every))

    @property
    def taken(self) -> float:
        """`taken_seconds`, which is never None."""
        return float(self.taken_seconds or 0.0)


@dataclass(frozen=True)
class TrainingJob:
    """A job whose course `simulate_job` draws.

    Attributes:
        steps: Steps of the whole training. Positive.
        step_seconds: A step in which no worker is late. Positive; `StepPrediction.step_seconds`.
        workers: Processes that compute. Positive.
        communication_seconds: The part of `step_seconds` in which workers reduce gradients and do
            nothing else. Stragglers do not lengthen it. From 0 to `step_seconds`.
        input_seconds: The part in which they wait for data. From 0; both parts together are at most
            `step_seconds`.
        steps_between_averages: Steps that workers compute without each other, with
            `tfscale.callbacks.LocalUpdates`. Positive; 1 if gradients are reduced in each step.
        parameter_servers: Above 0 for asynchronous training: workers wait for no other, one that
            fails is started by itself, and only a failure of a server or of the chief restarts all.
        saves: How long a save takes and how often there is one.
        failures: How often workers fail; None: never.
        stragglers: How the times of workers differ.

    Raises:
        ValueError: If a value is out of range, or values do not go together.

    Example:
        >>> job = TrainingJob(
        ...     steps=1_000_000, step_seconds=0.5, workers=64, saves=Saves(60.0),
        ...     failures=Failures(90 * 86400),
        ... )
        >>> job.every
        4227
    """

    steps: int
    step_seconds: float
    _: KW_ONLY
    workers: int = 1
    communication_seconds: float = 0.0
    input_seconds: float = 0.0
    steps_between_averages: int = 1
    parameter_servers: int = 0
    saves: Saves = field(default_factory=lambda: Saves(0.0))
    failures: Failures | None = None
    stragglers: Stragglers = field(default_factory=Stragglers)

    def __post_init__(self) -> None:
        for name in ("steps", "workers", "steps_between_averages"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        servers = whole_number("parameter_servers", self.parameter_servers, at_least=0)
        object.__setattr__(self, "parameter_servers", servers)
        object.__setattr__(
            self, "step_seconds", positive_seconds("step_seconds", self.step_seconds)
        )
        for name in ("communication_seconds", "input_seconds"):
            object.__setattr__(self, name, seconds_from_zero(name, getattr(self, name)))
        self._check_parts()
        check_classes(self, saves=Saves, failures=Failures, stragglers=Stragglers)
        self._check_least_workers()

    def _check_parts(self) -> None:
        for name in ("communication_seconds", "input_seconds"):
            value = getattr(self, name)
            if value > self.step_seconds:
                raise ValueError(
                    f"`{name}` must be a part of `step_seconds`. Received: {name}={value!r} with "
                    f"step_seconds={self.step_seconds!r}. Pass seconds of one step."
                )
        if self.communication_seconds + self.input_seconds > self.step_seconds * (1 + 1e-9):
            raise ValueError(
                "`communication_seconds` and `input_seconds` must be parts of `step_seconds` "
                f"together. Received: {self.communication_seconds!r} and {self.input_seconds!r} "
                f"with step_seconds={self.step_seconds!r}. Pass seconds of one step."
            )

    @property
    def least_workers(self) -> int | None:
        """With how many workers it continues while hosts are missing; None: it waits for all."""
        return None if self.failures is None else self.failures.least_workers

    def _check_least_workers(self) -> None:
        least = self.least_workers
        if least is None:
            return
        if least > self.workers:
            raise ValueError(
                f"`least_workers` must be at most `workers`, {self.workers}. Received: "
                f"least_workers={least}. Use fewer."
            )
        if self.parameter_servers or self.steps_between_averages > 1:
            raise ValueError(
                "`least_workers` must be None with parameter servers and with local updates, whose "
                f"jobs do not change in size. Received: least_workers={least}. Leave it out."
            )

    @property
    def compute_seconds(self) -> float:
        """The part of a step that stragglers lengthen."""
        return max(0.0, self.step_seconds - self.communication_seconds - self.input_seconds)

    @property
    def restart_seconds(self) -> float:
        """From a failure to the first step, if no host is missing; 0 without failures."""
        if self.failures is None:
            return 0.0
        stopped = self.failures.detection_seconds + self.failures.wait_seconds
        return stopped + self.failures.start_seconds + self.restore_seconds

    @property
    def restore_seconds(self) -> float:
        """How long a checkpoint is read."""
        given = None if self.failures is None else self.failures.restore_seconds
        return self.saves.seconds if given is None else given

    @property
    def critical_workers(self) -> int:
        """Tasks of which a single failure ends all."""
        return self.parameter_servers + 1 if self.parameter_servers else self.workers

    @functools.cached_property
    def mean_step_seconds(self) -> float:
        """The mean time of a step with stragglers, while the job runs with all workers."""
        rounds = self.stragglers.rounds(
            workers=1 if self.parameter_servers else self.workers,
            steps=self.steps_between_averages,
        )
        slowest = rounds.mean / self.steps_between_averages
        return self.communication_seconds + self.input_seconds + self.compute_seconds * slowest

    @functools.cached_property
    def every(self) -> int:
        """Steps from one save to the next: `saves.every`, or by Daly's formula."""
        if self.saves.every is not None:
            return self.saves.every
        if self.failures is None:
            return self.steps
        step = self.mean_step_seconds
        interval = step
        if self.saves.taken > 0:
            interval = checkpoint_interval(
                save_seconds=self.saves.taken,
                failure_seconds=self.failures.seconds,
                workers=self.critical_workers,
            )
        interval = max(interval, self.saves.seconds - self.saves.taken)
        return min(self.steps, max(1, round(interval / step)))


def check_classes(values: object, **classes: type) -> None:
    """Checks that attributes are of their classes; `failures` may be None.

    Raises:
        ValueError: If one is not.
    """
    for name, kind in classes.items():
        value = getattr(values, name)
        if not isinstance(value, kind) and not (name == "failures" and value is None):
            raise ValueError(
                f"`{name}` must be of the class {kind.__name__}. Received: {name}={value!r}. Make "
                f"one with tfscale.plan.{kind.__name__}."
            )
