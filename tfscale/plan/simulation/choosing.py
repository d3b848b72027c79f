"""Chooses the best of several predicted trainings under a deadline, a budget or an energy limit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strategies.extension import sequence, whole_number
from tfscale.plan.simulation.failures import Failures
from tfscale.plan.simulation.job import Saves, TrainingJob, check_classes
from tfscale.plan.simulation.planned_job import Limits, PlannedJob
from tfscale.plan.simulation.simulating import simulate_job
from tfscale.plan.simulation.stragglers import Stragglers
from tfscale.plan.simulation.young_daly import expected_run_seconds
from tfscale.plan.speed.prediction import StepPrediction
from tfscale.plan.speed.table import figure

_HOPELESS = 20.0  # times as long as without failures
_NOT_OFFERED = ("compressed",)
_OF_ONE_SIZE = ("parameter_servers", "local_updates", "mirrored")


@dataclass(frozen=True)
class Circumstances:
    """What every plan of a comparison has in common.

    Attributes:
        examples: Of the whole training, over all epochs. Positive.
        saves: How long a save takes; how often there is one is chosen for each.
        failures: How often a worker fails; None: never. `least_workers` is left out for
            "parameter_servers", "local_updates" and "mirrored", whose jobs do not change in size.
        stragglers: How the times of workers differ.
        steps_between_averages: Of "local_updates", as in the predictions. Positive.
        parameter_servers: Of "parameter_servers", as in the predictions. Positive.
        limits: What the training may take.
        repeats: How often each is simulated. Positive.
        seed: As in `simulate_job`.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> Circumstances(examples=1_000_000).repeats
        50
    """

    examples: int
    _: dataclasses.KW_ONLY
    saves: Saves = dataclasses.field(default_factory=lambda: Saves(0.0))
    failures: Failures | None = None
    stragglers: Stragglers = dataclasses.field(default_factory=Stragglers)
    steps_between_averages: int = 16
    parameter_servers: int = 1
    limits: Limits = dataclasses.field(default_factory=Limits)
    repeats: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("examples", "repeats", "steps_between_averages", "parameter_servers"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        check_classes(self, saves=Saves, failures=Failures, stragglers=Stragglers, limits=Limits)
        object.__setattr__(self, "seed", whole_number("seed", self.seed, at_least=0))

    def job(self, step: StepPrediction) -> TrainingJob:
        """Returns the training with such steps."""
        is_asynchronous = step.strategy == "parameter_servers"
        failures = self.failures
        if failures is not None and step.strategy in _OF_ONE_SIZE:
            failures = dataclasses.replace(failures, least_workers=None)
        return TrainingJob(
            steps=math.ceil(self.examples / step.global_batch_size),
            step_seconds=step.step_seconds,
            workers=step.workers,
            communication_seconds=step.parts["communication"],
            input_seconds=step.parts["input"],
            steps_between_averages=(
                self.steps_between_averages if step.strategy == "local_updates" else 1
            ),
            parameter_servers=self.parameter_servers if is_asynchronous else 0,
            saves=self.saves,
            failures=failures,
            stragglers=self.stragglers,
        )


@dataclass(frozen=True, eq=False)
class JobPlan:
    """Trainings that were compared.

    Attributes:
        jobs: All of them, in the order of their predictions.
        chosen: The best that keeps all limits; None if there is none.
        reason: Why it was chosen, or what is missing.
    """

    jobs: Sequence[PlannedJob]
    chosen: PlannedJob | None
    reason: str


def best_plan(
    predictions: Sequence[StepPrediction],
    circumstances: Circumstances,
    *,
    bytes_missing: Callable[[StepPrediction], int] | None = None,
    say: Callable[[str], object] | None = None,
) -> JobPlan:
    """Simulates a training at each predicted step time, and chooses one.

    Limits are compared with the time that one repeat in ten exceeds. Of what keeps them, the
    cheapest is chosen if there is a deadline, by cost, or else by energy, or else by the time of
    all machines together; without a deadline the fastest.

    Args:
        predictions: Steps, at least one.
        circumstances: What all have in common.
        bytes_missing: Returns the memory that a device lacks, 0 if it fits. It is asked about a
            plan that would be chosen, the best first, until one fits. None: not asked.
        say: Is called with what is done, for a progress line.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> step = StepPrediction(
        ...     "ring", 2, 2, 20, 0.5, 0.5, 0.6, {"communication": 0.1, "input": 0.0}, 1.0, 40.0,
        ...     "compute", False, ""
        ... )
        >>> plan = best_plan(
        ...     [step],
        ...     Circumstances(
        ...         examples=144_000, limits=tfscale.plan.Limits(deadline_seconds=3 * 3600)
        ...     ),
        ... )
        >>> plan.chosen.name, round(plan.chosen.seconds)
        ('ring on 2 workers', 3630)
    """
    found = sequence("predictions", predictions)
    if not found:
        raise ValueError("`predictions` must be at least one. Received: none. Predict a step.")
    jobs: list[PlannedJob] = []
    for step in found:
        is_next = not jobs or jobs[-1].prediction.strategy != step.strategy
        if say is not None and is_next:
            say(f"simulating jobs with {step.strategy}")
        jobs.append(_planned(step, circumstances))
    jobs, chosen = _first_that_fits(jobs, circumstances.limits, bytes_missing)
    reason = _missing(jobs) if chosen is None else _why(chosen, jobs)
    return JobPlan(jobs, chosen, reason)


def _planned(step: StepPrediction, circumstances: Circumstances) -> PlannedJob:
    job = circumstances.job(step)
    helpers = job.parameter_servers + 1 if job.parameter_servers else 0
    forecast, is_too_long = None, False
    if _advances(job):
        try:
            forecast = simulate_job(job, repeats=circumstances.repeats, seed=circumstances.seed)
        except ValueError:  # more saves or starts than it takes
            is_too_long = True
    return PlannedJob(
        step,
        job,
        step.workers + helpers,
        forecast,
        circumstances.limits,
        is_offered=step.strategy not in _NOT_OFFERED,
        is_too_long=is_too_long,
    )


def _advances(job: TrainingJob) -> bool:
    """Returns whether a job advances fast enough, by Daly's formula."""
    if job.failures is not None:
        work = job.steps * job.mean_step_seconds
        try:
            expected = expected_run_seconds(
                train_seconds=work,
                interval_seconds=job.every * job.mean_step_seconds,
                save_seconds=job.saves.taken,
                failure_seconds=job.failures.seconds,
                workers=job.critical_workers,
                restart_seconds=job.restart_seconds,
            )
        except ValueError:
            return False
        return expected <= _HOPELESS * work + job.restart_seconds
    return True


def _first_that_fits(
    jobs: list[PlannedJob],
    limits: Limits,
    bytes_missing: Callable[[StepPrediction], int] | None,
) -> tuple[list[PlannedJob], PlannedJob | None]:
    """Asks about memory in the order of preference, and returns the jobs with what was found."""
    for planned in sorted((each for each in jobs if not each.misses), key=_price(limits)):
        missing = 0 if bytes_missing is None else bytes_missing(planned.prediction)
        if missing == 0:
            return jobs, planned
        too_large = dataclasses.replace(planned, bytes_missing=missing)
        jobs = [too_large if each is planned else each for each in jobs]
    return jobs, None


def _price(limits: Limits) -> Callable[[PlannedJob], tuple[float, float]]:
    """Returns what is least for the best plan."""

    def cheapest(planned: PlannedJob) -> tuple[float, float]:
        seconds = planned.seconds
        price = planned.cost(seconds)
        if price is None:
            price = planned.energy_kwh(seconds)
        return planned.machines * seconds if price is None else price, seconds

    def fastest(planned: PlannedJob) -> tuple[float, float]:
        return planned.seconds, cheapest(planned)[0]

    return fastest if limits.deadline_seconds is None else cheapest


def _why(chosen: PlannedJob, jobs: Sequence[PlannedJob]) -> str:
    kept = [f"the {name}" for name in chosen.compared(0.0)]
    count = sum(not each.misses for each in jobs)
    best = "Fastest" if chosen.limits.deadline_seconds is None else "Cheapest"
    if not kept:
        reason = f"{best} of {count}: {chosen.name}. No limit was given."
    elif count == 1:
        reason = f"The only one that keeps {' and '.join(kept)}: {chosen.name}."
    else:
        reason = f"{best} of the {count} that keep {' and '.join(kept)}: {chosen.name}."
    step = chosen.prediction
    excess = chosen.exceeded(chosen.slow_seconds)
    if excess:
        reason += (
            f" Its step is predicted as {figure(1e3 * step.low_seconds)} to "
            f"{figure(1e3 * step.high_seconds)} ms; at the upper end it misses "
            f"the {' and the '.join(excess)}: measure on more workers."
        )
    return reason


def _missing(jobs: Sequence[PlannedJob]) -> str:
    """Returns what the nearest plan lacks."""
    known = [each for each in jobs if each.forecast is not None and each.is_offered]
    if not known and any(each.is_too_long for each in jobs):
        return (
            "Nothing fits: the jobs are too long to simulate. Train fewer examples, repeat them "
            "less often, or save less often."
        )
    if not known:
        return (
            "Nothing fits: workers fail so often that no job advances. Save faster, use fewer "
            "workers, or workers that fail less."
        )

    def worst(planned: PlannedJob) -> float:
        compared = planned.compared(planned.high_seconds).values()
        return max((found / limit for found, limit in compared), default=0.0)

    nearest = min(known, key=lambda each: (max(1.0, worst(each)), each.bytes_missing))
    units = {
        "deadline": lambda value: f"{figure(value / 3600)} h more than the deadline",
        "budget": lambda value: f"{figure(value)} more than the budget",
        "energy limit": lambda value: f"{figure(value)} kWh more than the energy limit",
    }
    exceeded = nearest.exceeded(nearest.high_seconds)
    lacks = [units[name](value) for name, value in exceeded.items()]
    if nearest.bytes_missing:
        lacks.append(f"{nearest.bytes_missing / 2**30:.3g} GiB more memory on a device")
    return f"Nothing fits: the nearest, {nearest.name}, needs {' and '.join(lacks)}."
