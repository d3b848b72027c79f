"""Joins schedules one after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from strategies.extension import sequence, whole_number
from tfscale.schedules.float64_schedule import (
    Float64Schedule,
    in_float64,
    rate_at,
    schedule_or_rate,
)


@keras.saving.register_keras_serializable(package="tfscale")
class Joined(Float64Schedule):
    """The schedule that `join` returns. Takes the arguments of `join`."""

    def __init__(self, schedules: Sequence[Any], boundaries: Sequence[int]) -> None:
        super().__init__()
        self.schedules = [
            schedule_or_rate("schedules", schedule) for schedule in sequence("schedules", schedules)
        ]
        self.boundaries = [
            whole_number("boundaries", boundary) for boundary in sequence("boundaries", boundaries)
        ]
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                f"`schedules` must be one more than the boundaries. Received: {len(self.schedules)}"
                f" schedules and boundaries={self.boundaries!r}. "
                "Pass the first step of each schedule but the first."
            )
        if any(later <= earlier for earlier, later in itertools.pairwise(self.boundaries)):
            raise ValueError(
                f"`boundaries` must increase. Received: boundaries={self.boundaries!r}. "
                "Count steps from the start of training."
            )
        self._computed = [in_float64(schedule) for schedule in self.schedules]

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        rate = rate_at(self._computed[0], step)
        for boundary, schedule in zip(self.boundaries, self._computed[1:], strict=True):
            later = rate_at(schedule, ops.maximum(step - boundary, 0))
            rate = ops.where(step < boundary, rate, later)
        return rate

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with the schedules serialized."""
        return {
            "schedules": [keras.saving.serialize_keras_object(each) for each in self.schedules],
            "boundaries": self.boundaries,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Joined:
        """Makes the schedule from what `get_config` returned."""
        schedules = [keras.saving.deserialize_keras_object(each) for each in config["schedules"]]
        return cls(schedules, config["boundaries"])


def join(schedules: Sequence[Any], boundaries: Sequence[int]) -> Joined:
    """Builds a schedule that follows several, one after another.

    Schedule 0 is used below step `boundaries[0]`. Schedule i is used from step `boundaries[i - 1]`,
    and counts its steps from there. `join([schedule], [])` is the schedule itself in float64.

    Args:
        schedules: `LearningRateSchedule`s or constant rates, at least one.
        boundaries: First optimizer step of each schedule but the first. Positive and increasing.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If the boundaries do not increase, or are not one fewer than the schedules.

    Example:
        >>> decay = tfscale.schedules.linear_decay(0.01, decay_steps=10)
        >>> rate = join([0.1, decay], boundaries=[100])
        >>> [round(float(rate(step)), 6) for step in (0, 99, 100, 105, 110)]
        [0.1, 0.1, 0.01, 0.005, 0.0]
    """
    return Joined(schedules, boundaries)
