"""A schedule multiplied by a factor that can change during training."""

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
    """The schedule that `adjustable` returns. Takes the arguments of `adjustable`.

    The factor is a variable, so an already traced training step sees its changes. It is saved in
    the configuration and so in a `.keras` file. It is not a weight of the optimizer, so a file with
    weights only (`.weights.h5`, a backup) does not contain it.
    """

    def __init__(self, schedule: Any, factor: float = 1.0) -> None:
        super().__init__()
        self.schedule = schedule_or_rate("schedule", schedule)
        self._computed = in_float64(self.schedule)
        # Like Keras's constant learning rate: the same value on all replicas.
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
        """The factor of the schedule, at least 0. Every worker must set the same value."""
        return float(self._factor.value.numpy())

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor.assign(learning_rate("factor", factor))

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        return rate_at(self._computed, step) * self._factor.value

    def get_config(self) -> dict[str, Any]:
        """Returns the serialized schedule and the current factor."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "factor": self.factor,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adjustable:
        """Makes the schedule from what `get_config` returned."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])


def adjustable(schedule: Any, factor: float = 1.0) -> Adjustable:
    """Builds a schedule with a factor that can be changed during training.

    The rate at step s is `factor * schedule(s)`. `tfscale.callbacks.ReduceOnPlateau` sets `factor`.
    You can set it too, between steps, to the same value on every worker. It must be the outermost
    schedule: pass it directly to the optimizer.

    Args:
        schedule: A `LearningRateSchedule`, or a constant rate.
        factor: The initial factor, at least 0.

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
    """Yields the adjustable schedules of an optimizer and its inner optimizers (loss scaling).

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
    """Sets the factors of schedules to those of a checkpoint.

    Args:
        schedules: The adjustable schedules of an optimizer.
        factors: One number per schedule, at least 0.

    Raises:
        ValueError: If `factors` is malformed. No schedule is changed then.
    """
    if not isinstance(factors, list) or len(factors) != len(schedules):
        raise ValueError(
            f"`factors` must be a list of {len(schedules)}, one per adjustable schedule of the "
            f"optimizer. Received: factors={factors!r}. Build the same optimizer."
        )
    rates = [learning_rate("factors", factor) for factor in factors]
    for schedule, rate in zip(schedules, rates, strict=True):
        schedule.factor = rate
