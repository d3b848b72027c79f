"""The warmup-stable-decay schedule."""

from __future__ import annotations

from typing import Any

import keras

from strategies.extension import one_of, whole_number
from tfscale.schedules.arguments import learning_rate
from tfscale.schedules.joined_schedule import join
from tfscale.schedules.piecewise_linear_schedule import constant, linear_decay
from tfscale.schedules.warmup_schedule import Warmup, warmup

DECAYS = ("linear", "exponential")


def warmup_stable_decay(
    maximum_learning_rate: float,
    *,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    end_learning_rate: float = 0.0,
    decay: str = "linear",
) -> Warmup:
    """Builds the warmup-stable-decay schedule.

    Choose it if the length of training is not known in advance. A run can be continued from the
    stable part, and ended at any point by a decay of about a tenth of the steps so far.
    With eta the maximum, e the end, u = (step - warmup_steps - stable_steps) / decay_steps:
    `eta * step / warmup_steps`, then `eta`, then `eta + (e - eta) * u` (linear) or
    `eta * (e / eta) ** u` (exponential), then `e`.

    Args:
        maximum_learning_rate: The stable rate. Positive.
        warmup_steps: Optimizer steps of the rise from rate 0, at least 0.
        stable_steps: Steps at the stable rate, at least 0.
        decay_steps: Steps of the decay. Positive.
        end_learning_rate: Rate after the decay, at least 0; positive if `decay` is "exponential".
        decay: "linear" or "exponential".

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> rate = warmup_stable_decay(1.0, warmup_steps=4, stable_steps=90, decay_steps=10)
        >>> [round(float(rate(step)), 6) for step in (0, 2, 4, 93, 99, 104)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Source: Hu et al. 2024, arXiv:2404.06395, section 4.2.
    """
    maximum = learning_rate("maximum_learning_rate", maximum_learning_rate, is_zero_allowed=False)
    stable_steps = whole_number("stable_steps", stable_steps, at_least=0)
    decay_steps = whole_number("decay_steps", decay_steps)
    one_of("decay", decay, DECAYS)
    end = learning_rate("end_learning_rate", end_learning_rate, is_zero_allowed=decay == "linear")
    parts: list[Any] = [constant(maximum)] if stable_steps else []
    boundaries = [stable_steps] if stable_steps else []
    if decay == "linear":
        parts.append(linear_decay(maximum, decay_steps, end))
    else:
        exponential = keras.optimizers.schedules.ExponentialDecay
        parts += [exponential(maximum, decay_steps, decay_rate=end / maximum), constant(end)]
        boundaries.append(stable_steps + decay_steps)
    return warmup(join(parts, boundaries), warmup_steps)
