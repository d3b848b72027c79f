"""A schedule times a factor that can change while training runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfscale.schedules.arguments import learning_rate
from tfscale.schedules.float64_schedule import (
    Float64Schedule,
    in_float64,
    rate_at,
    schedule_or_rate,
)


@keras.saving.register_keras_serializable(package="tfscale")
class Adjustable(Float64Schedule):
    """What `adjustable` returns. Takes the arguments of `adjustable`.

    The factor is a variable: a training step that is traced already sees it change. It is kept in
    the configuration and so in a `.keras` file, but it is no weight of the optimizer: a file of
    weights alone (`.weights.h5`, a backup) does not hold it.
    """

    def __init__(self, schedule: Any, factor: float = 1.0) -> None:
        super().__init__()
        self.schedule = schedule_or_rate("schedule", schedule)
        self._computed = in_float64(self.schedule)
        # As Keras keeps a constant learning rate: one value for all replicas, on each of them.
        self._factor = keras.Variable(
            learning_rate("factor", factor),
            dtype="float64",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="learning_rate_factor",
        )

    @property
    def factor(self) -> float:
        """What the schedule is multiplied by, at least 0. Every worker must set the same."""
        return float(self._factor.value.numpy())

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor.assign(learning_rate("factor", factor))

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        return rate_at(self._computed, step) * self._factor.value

    def get_config(self) -> dict[str, Any]:
        """Returns the schedule, serialized, and the factor as it is now."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "factor": self.factor,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adjustable:
        """Makes the schedule again from what `get_config` returned."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])


def adjustable(schedule: Any, factor: float = 1.0) -> Adjustable:
    """Builds a schedule that can be turned down, or up, while it runs.

    The rate at step s is `factor * schedule(s)`. `tfscale.callbacks.ReduceOnPlateau` sets `factor`;
    so may you, between steps, to the same value on every worker. It is the outermost schedule:
    hand it to the optimizer as it is.

    Args:
        schedule: A `LearningRateSchedule`, or a constant rate.
        factor: The factor to begin with, at least 0.

    Returns:
        A `LearningRateSchedule`, computed in float64, with a property `factor`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> rate = adjustable(keras.optimizers.schedules.CosineDecay(0.2, decay_steps=100))
        >>> rate.factor *= 0.1
        >>> round(float(rate(50)), 6)
        0.01
    """
    return Adjustable(schedule, factor)


def adjustable_schedules(optimizer: Any) -> Iterator[Adjustable]:
    """Yields the adjustable schedules of an optimizer and of those it holds, as loss scaling does.

    Args:
        optimizer: A Keras optimizer.

    Example:
        >>> optimizer = keras.optimizers.SGD(adjustable(0.1))
        >>> [rate.factor for rate in adjustable_schedules(optimizer)]
        [1.0]
    """
    for value in vars(optimizer).values():
        if isinstance(value, Adjustable):
            yield value
        for inner in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(inner, keras.optimizers.Optimizer):
                yield from adjustable_schedules(inner)


def restore_factors(schedules: Sequence[Adjustable], factors: Any) -> None:
    """Sets the factors of schedules to what a checkpoint has kept.

    Args:
        schedules: An optimizer's.
        factors: A number for each, at least 0.

    Raises:
        ValueError: If it is anything else. No schedule has changed then.
    """
    if not isinstance(factors, list) or len(factors) != len(schedules):
        raise ValueError(
            f"`factors` must be a list of {len(schedules)}, one an adjustable schedule of the "
            f"optimizer. Received: factors={factors!r}. Build the optimizer as it was."
        )
    rates = [learning_rate("factors", factor) for factor in factors]
    for schedule, rate in zip(schedules, rates, strict=True):
        schedule.factor = rate
