"""What a whole training takes at a predicted speed."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.extension import number, whole_number
from tfscale.plan.speed.prediction import StepPrediction


@dataclass(frozen=True)
class TrainingCost:
    """Time and money of a training.

    Attributes:
        hours: From the first step to the last, without start and stops. Positive.
        cost: Of all machines, in the unit of the price; None without a price.
    """

    hours: float
    cost: float | None


def training_cost(
    predicted: StepPrediction,
    examples: int,
    cost_per_hour: float | None = None,
    servers: int = 1,
) -> TrainingCost:
    """Returns what a training takes.

    Args:
        predicted: A step.
        examples: Of all epochs together. Positive.
        cost_per_hour: Price of a worker for an hour, and of each parameter server and their chief.
            Not negative.
        servers: Parameter servers, if `predicted` is of those. Positive.

    Raises:
        ValueError: If a number is none of these.

    Example:
        >>> step = StepPrediction(
        ...     "ring", 2, 2, 20, 0.5, 0.5, 0.5, {}, 1.0, 40.0, "compute", False, ""
        ... )
        >>> training_cost(step, examples=288_000, cost_per_hour=3.0)
        TrainingCost(hours=2.0, cost=12.0)
    """
    whole_number("examples", examples)
    whole_number("servers", servers)
    if cost_per_hour is not None:
        number("cost_per_hour", cost_per_hour, "0 or more", lambda value: value >= 0)
    hours = examples / predicted.examples_per_second / 3600
    machines = predicted.workers
    if predicted.strategy == "parameter_servers":
        machines += servers + 1
    return TrainingCost(hours, None if cost_per_hour is None else hours * machines * cost_per_hour)
