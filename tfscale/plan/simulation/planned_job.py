"""A whole training on one size of cluster: its forecast, its cost, and which limits it misses."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from strategies.extension import number
from tfscale.plan.simulation.forecast import JobForecast
from tfscale.plan.simulation.job import TrainingJob
from tfscale.plan.speed.prediction import StepPrediction

_HOUR = 3600.0
_RULE = "finite and positive"


@dataclass(frozen=True)
class Limits:
    """What a training may take. Each limit may be None: there is none.

    Attributes:
        deadline_seconds: From its start to its end. Positive.
        budget: Cost of all machines together, in the unit of `cost_per_hour`. Positive.
        energy_kwh: Energy of all machines together. Positive.
        cost_per_hour: Price of one machine. Positive; required with `budget`.
        watts: Power of one machine, the mean over the training. Positive; required with
            `energy_kwh`.

    Raises:
        ValueError: If a value is out of range, or `cost_per_hour` or `watts` is missing.

    Example:
        >>> Limits(deadline_seconds=12 * 3600, budget=500.0, cost_per_hour=2.5).budget
        500.0
    """

    _: KW_ONLY
    deadline_seconds: float | None = None
    budget: float | None = None
    energy_kwh: float | None = None
    cost_per_hour: float | None = None
    watts: float | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_seconds", "budget", "energy_kwh", "cost_per_hour", "watts"):
            value = getattr(self, name)
            if value is not None:
                value = number(name, value, _RULE, lambda found: found > 0, cure="Or leave it out.")
                object.__setattr__(self, name, value)
        for name, needed in (("budget", "cost_per_hour"), ("energy_kwh", "watts")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(
                    f"`{needed}` must be given with `{name}`, for one machine. Received: "
                    f"{name}={getattr(self, name)!r}. Add it."
                )


@dataclass(frozen=True, eq=False)
class PlannedJob:
    """A training with one strategy on one number of workers.

    Attributes:
        prediction: Of its step.
        job: What was simulated.
        machines: Workers, and the parameter servers and the chief if there are any.
        forecast: Its course. None if it fails so often that it hardly advances, or is too long.
        limits: What it may take.
        bytes_missing: Memory that a device lacks, in bytes; 0 if it fits or was not asked about.
        is_offered: Whether tfscale can run it.
        is_too_long: Whether it has more saves or starts than `simulate_job` takes.
    """

    prediction: StepPrediction
    job: TrainingJob
    machines: int
    forecast: JobForecast | None
    limits: Limits
    bytes_missing: int = 0
    is_offered: bool = True
    is_too_long: bool = False

    @property
    def seconds(self) -> float:
        """The mean time from the first start to the end; infinite without a forecast."""
        return float("inf") if self.forecast is None else self.forecast.seconds

    @property
    def high_seconds(self) -> float:
        """One repeat in ten takes longer: limits are compared with this."""
        return float("inf") if self.forecast is None else self.forecast.high_seconds

    @property
    def slow_seconds(self) -> float:
        """The same if a step takes the upper end of its predicted interval."""
        step = self.prediction
        return self.high_seconds * step.high_seconds / step.step_seconds

    def cost(self, seconds: float) -> float | None:
        """Returns what all machines cost for so long; None without a price."""
        price = self.limits.cost_per_hour
        return None if price is None else price * self.machines * seconds / _HOUR

    def energy_kwh(self, seconds: float) -> float | None:
        """Returns the energy of all machines in kWh; None without their power."""
        watts = self.limits.watts
        return None if watts is None else watts * self.machines * seconds / _HOUR / 1000

    def compared(self, seconds: float) -> dict[str, tuple[float, float]]:
        """Returns what a training of so many seconds takes, and its limit, by the limit's name."""
        limits = self.limits
        pairs = {
            "deadline": (seconds, limits.deadline_seconds),
            "budget": (self.cost(seconds), limits.budget),
            "energy limit": (self.energy_kwh(seconds), limits.energy_kwh),
        }
        return {
            name: (found, limit)
            for name, (found, limit) in pairs.items()
            if found is not None and limit is not None
        }

    def exceeded(self, seconds: float) -> dict[str, float]:
        """Returns by how much a training of so many seconds exceeds each limit that it misses."""
        compared = self.compared(seconds).items()
        return {name: found - limit for name, (found, limit) in compared if found > limit}

    @property
    def misses(self) -> tuple[str, ...]:
        """Why it cannot be chosen; empty if it can."""
        reasons = list(self.exceeded(self.high_seconds))
        if self.forecast is None:
            reasons = ["too long to simulate" if self.is_too_long else "fails too often"]
        if self.bytes_missing:
            reasons.append("memory")
        if not self.is_offered:
            reasons.append("not offered")
        return tuple(reasons)

    @property
    def name(self) -> str:
        """Strategy and size, for a sentence."""
        step = self.prediction
        least = self.job.least_workers
        range_of = "" if least is None else f"{least:,} to "
        workers = f"{range_of}{step.workers:,} worker{'' if step.workers == 1 else 's'}"
        if step.replicas != step.workers:
            workers += f" with {step.replicas // step.workers} replicas each"
        return f"{step.strategy} on {workers}"
