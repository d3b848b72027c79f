"""Schedules that compute in float64, including Keras's schedules.

Keras computes a schedule of Python floats in float32, which TensorFlow rounds differently in
different graphs: two workers, or a callback and the training step, see rates that differ in the
last digits. float32 also loses single steps beyond 2**24. These schedules compute in float64 and
round once at the end.
"""

from __future__ import annotations

import abc
from typing import Any

import keras
import numpy as np
from keras import ops

from tfscale.schedules.arguments import learning_rate


class Float64Schedule(keras.optimizers.schedules.LearningRateSchedule, abc.ABC):
    """Base class of schedules that define a float64 rate as a function of the step.

    A call with a step returns the rate in Keras's default float type (`keras.config.floatx()`).
    """

    def __call__(self, step: Any) -> Any:
        """Returns the rate at a step (an int or integer tensor) in Keras's default float type."""
        return ops.cast(self.rate(whole_step(step)), keras.config.floatx())

    @abc.abstractmethod
    def rate(self, step: Any) -> Any:
        """Returns the rate at a step.

        Args:
            step: int64 scalar, from 0.

        Returns:
            The rate, a float64 scalar.
        """


def whole_step(step: Any) -> Any:
    """Returns a step as an int64 tensor.

    Raises:
        ValueError: If `step` is not an integer, because a float32 loses steps beyond 2**24.
    """
    tensor = ops.convert_to_tensor(step)
    if "int" not in keras.backend.standardize_dtype(tensor.dtype):
        raise ValueError(
            f"`step` must be a whole number. Received: step={step!r}. "
            "Pass `optimizer.iterations` or an int."
        )
    return ops.cast(tensor, "int64")


def rate_at(schedule: Any, step: Any) -> Any:
    """Returns the float64 rate of a schedule or constant at an int64 step.

    Schedules of Keras and of the user keep their own precision; see `in_float64`.

    Example:
        >>> float(rate_at(tfscale.schedules.linear_decay(0.5, decay_steps=4), 2))
        0.25
    """
    if isinstance(schedule, float):
        return ops.convert_to_tensor(schedule, "float64")
    if isinstance(schedule, Float64Schedule):
        return schedule.rate(step)
    return ops.cast(schedule(step), "float64")


def in_float64(schedule: Any) -> Any:
    """Returns a schedule of Keras with its numbers in float64, and other schedules unchanged.

    Keras computes in the type of the numbers that a schedule was made with. A schedule of a custom
    class is not copied, because its constructor may do anything.
    """
    kind = type(schedule)
    if getattr(keras.optimizers.schedules, kind.__name__, None) is not kind:
        return schedule
    numbers = schedule.get_config()
    widened = kind.from_config({name: _widened(number) for name, number in numbers.items()})
    has_jumps = kind is keras.optimizers.schedules.CosineDecayRestarts
    return _JustAfter(widened) if has_jumps or numbers.get("staircase") else widened


class _JustAfter(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras schedule with jumps, evaluated slightly after each step.

    Keras finds the period by `floor(step / decay_steps)` or `floor(log(...) / log(...))`.
    TensorFlow's graphs multiply by a constant's reciprocal instead, so that 49 * (1 / 49) < 1 and
    the jump comes one step late (in float32 after 41 steps, in float64 after 49). One part in 2**48
    is more than that rounding, too little to reach the next step below 2**47, and changes the rate
    by less than 1e-14 of its height for each period that has passed.
    """

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        return self.schedule(ops.cast(step, "float64") * (1 + 2**-48))


def _widened(value: Any) -> Any:
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, (list, tuple)):
        return [_widened(part) for part in value]
    return value


def schedule_or_rate(name: str, value: Any) -> Any:
    """Returns a schedule unchanged, and a constant rate as a float.

    Raises:
        ValueError: If `value` is neither a schedule nor a rate.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if callable(value):
        raise ValueError(
            f"`{name}` must be a LearningRateSchedule or a number. Received: {name}={value!r}. "
            "Derive it from keras.optimizers.schedules.LearningRateSchedule."
        )
    return learning_rate(name, value)
