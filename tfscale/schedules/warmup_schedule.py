"""Warm-up: a linear rise to the first rate of a schedule."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from strategies.extension import whole_number
from tfscale.schedules.arguments import learning_rate
from tfscale.schedules.float64_schedule import (
    Float64Schedule,
    in_float64,
    rate_at,
    schedule_or_rate,
)


@keras.saving.register_keras_serializable(package="tfscale")
class Warmup(Float64Schedule):
    """The schedule that `warmup` returns. Takes the arguments of `warmup`."""

    def __init__(self, schedule: Any, warmup_steps: int, initial: float = 0.0) -> None:
        super().__init__()
        self.schedule = schedule_or_rate("schedule", schedule)
        self.warmup_steps = whole_number("warmup_steps", warmup_steps, at_least=0)
        self.initial = learning_rate("initial", initial)
        self._computed = in_float64(self.schedule)

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        after = rate_at(self._computed, ops.maximum(step - self.warmup_steps, 0))
        if self.warmup_steps == 0:
            return after
        # During the warm-up `after` is the schedule's first rate, where the line ends.
        risen = ops.cast(step, "float64") / self.warmup_steps
        line = self.initial + (after - self.initial) * risen
        return ops.where(step < self.warmup_steps, line, after)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with the schedule serialized."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "warmup_steps": self.warmup_steps,
            "initial": self.initial,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        """Makes the schedule from what `get_config` returned."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["warmup_steps"], config["initial"])


def warmup(schedule: Any, warmup_steps: int, initial: float = 0.0) -> Warmup:
    """Builds a schedule with a linear warm-up before another schedule.

    At step s below n = `warmup_steps` the rate is `initial + (schedule(0) - initial) * s / n`. From
    step n it is `schedule(s - n)`. So a decay that should end at step T has T - n steps.

    Args:
        schedule: A `LearningRateSchedule` (of Keras, of this package or your own), or a constant
            rate.
        warmup_steps: Optimizer steps of the warm-up, at least 0.
        initial: Rate at step 0, at least 0. May be above the schedule's first rate.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> cosine = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=90)
        >>> rate = warmup(cosine, warmup_steps=10)
        >>> [round(float(rate(step)), 6) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.05, 0.1, 0.05, 0.0]

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.2.
    """
    return Warmup(schedule, warmup_steps, initial)
