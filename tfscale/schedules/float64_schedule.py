"""A schedule that is computed in float64, and Keras's own schedules computed that way.

From a Python float Keras computes a schedule in float32, which TensorFlow rounds differently from
graph to graph: two workers, or a callback and the training step, read rates that differ in the last
digits. float32 also loses whole steps beyond 2**24. Ours compute in float64 and round once, last.
"""

from __future__ import annotations

import abc
from typing import Any

import keras
import numpy as np
from keras import ops

from tfscale.schedules.arguments import learning_rate


class Float64Schedule(keras.optimizers.schedules.LearningRateSchedule, abc.ABC):
    """A schedule made of one function, from the step to a float64 rate.

    Called with a step, it returns the rate in Keras's default float (`keras.config.floatx()`).
    """

    def __call__(self, step: Any) -> Any:
        """Returns the rate at a step, an int or an integer tensor, in Keras's default float."""
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
        ValueError: If `step` is a fraction's type: a float32 would lose steps beyond 2**24.
    """
    tensor = ops.convert_to_tensor(step)
    if "int" not in keras.backend.standardize_dtype(tensor.dtype):
        raise ValueError(
            f"`step` must be a whole number. Received: step={step!r}. "
            "Pass `optimizer.iterations` or an int."
        )
    return ops.cast(tensor, "int64")


def rate_at(schedule: Any, step: Any) -> Any:
    """Returns the float64 rate at an int64 step, of any schedule or of a constant rate.

    A schedule of Keras or of the user's own is rounded as it rounds itself; see `in_float64`.

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
    """Returns Keras's own schedule with its numbers in float64; any other as it is.

    Keras computes in the type of the numbers that a schedule was made of. A class of the user's own
    is not made anew: what its constructor does is not ours to know.
    """
    kind = type(schedule)
    if getattr(keras.optimizers.schedules, kind.__name__, None) is not kind:
        return schedule
    numbers = schedule.get_config()
    widened = kind.from_config({name: _widened(number) for name, number in numbers.items()})
    has_jumps = kind is keras.optimizers.schedules.CosineDecayRestarts
    return _JustAfter(widened) if has_jumps or numbers.get("staircase") else widened


class _JustAfter(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of Keras that jumps, read a hair after each step.

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
    """Returns a schedule as it is, and a constant rate as a float.

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
