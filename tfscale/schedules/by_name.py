"""Builds a schedule by name, as for a command-line flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from strategies.extension import one_of, whole_number
from tfscale.schedules.arguments import learning_rate as checked_rate
from tfscale.schedules.float64_schedule import Float64Schedule
from tfscale.schedules.inverse_square_root_schedule import inverse_square_root_decay
from tfscale.schedules.joined_schedule import join
from tfscale.schedules.piecewise_linear_schedule import constant, linear_decay, one_cycle
from tfscale.schedules.stable_decay_schedule import warmup_stable_decay
from tfscale.schedules.warmup_schedule import warmup


def schedule_by_name(
    name: str, *, learning_rate: float, num_steps: int, warmup_steps: int = 0
) -> Float64Schedule:
    """Builds the schedule of a training run from a name and numbers.

    The rate rises from 0 over `warmup_steps`. Then, over the other `num_steps - warmup_steps`:

    * constant: `learning_rate`.
    * cosine: half a cosine down to 0.
    * linear: a line down to 0.
    * exponential: down to a hundredth, by the same factor in each step.
    * piecewise: a tenth after half of the steps, a hundredth after three quarters
      (He et al. 2015, arXiv:1512.03385, section 4.2).
    * warmup_stable_decay: constant, then a line down to 0 over the last tenth of `num_steps`.
    * inverse_square_root: `inverse_square_root_decay`, which needs a warm-up.
    * one_cycle: `one_cycle`, which has its own warm-up.

    Args:
        name: One of `SCHEDULES`.
        learning_rate: The highest rate. Positive.
        num_steps: Optimizer steps of the whole training, including the warm-up. Positive.
        warmup_steps: Steps of the warm-up, at least 0, fewer than `num_steps`.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If `name` is not one of `SCHEDULES`, a number is out of range, or `warmup_steps`
            does not suit the schedule.

    Example:
        >>> rate = schedule_by_name("linear", learning_rate=0.2, num_steps=100, warmup_steps=20)
        >>> [round(float(rate(step)), 6) for step in (0, 10, 20, 60, 100)]
        [0.0, 0.1, 0.2, 0.1, 0.0]
    """
    one_of("name", name, SCHEDULES)
    rate = checked_rate("learning_rate", learning_rate, is_zero_allowed=False)
    num_steps = whole_number("num_steps", num_steps)
    warmup_steps = whole_number("warmup_steps", warmup_steps, at_least=0)
    if warmup_steps >= num_steps:
        raise ValueError(
            f"`warmup_steps` must be fewer than the {num_steps} steps of training. Received: "
            f"warmup_steps={warmup_steps!r}. Shorten the warm-up, or train longer."
        )
    return _BUILDERS[name](rate, num_steps, warmup_steps)


def _constant(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    return warmup(constant(rate), warmup_steps)


def _cosine(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    decay: Any = keras.optimizers.schedules.CosineDecay(rate, num_steps - warmup_steps)
    return warmup(decay, warmup_steps)


def _linear(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    return warmup(linear_decay(rate, num_steps - warmup_steps), warmup_steps)


def _exponential(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    decay: Any = keras.optimizers.schedules.ExponentialDecay(rate, num_steps - warmup_steps, 0.01)
    return warmup(decay, warmup_steps)


def _piecewise(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    steps = num_steps - warmup_steps
    if steps < 4:
        raise ValueError(
            "`num_steps` must be at least 4 more than the warm-up for a piecewise schedule. "
            f"Received: num_steps={num_steps!r}, warmup_steps={warmup_steps!r}. Train longer."
        )
    return warmup(join([rate, rate / 10, rate / 100], [steps // 2, steps * 3 // 4]), warmup_steps)


def _warmup_stable_decay(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    decay_steps = -(-num_steps // 10)  # at least one
    stable_steps = num_steps - warmup_steps - decay_steps
    if stable_steps < 0:
        raise ValueError(
            f"`warmup_steps` must leave the last {decay_steps} of {num_steps} steps to the decay. "
            f"Received: warmup_steps={warmup_steps!r}. Shorten the warm-up."
        )
    return warmup_stable_decay(
        rate, warmup_steps=warmup_steps, stable_steps=stable_steps, decay_steps=decay_steps
    )


def _inverse_square_root(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    if warmup_steps == 0:
        raise ValueError(
            "`warmup_steps` must be positive for an inverse_square_root schedule. Received: "
            "warmup_steps=0. The decay depends on the warm-up; the paper uses 4000 steps."
        )
    return inverse_square_root_decay(rate, warmup_steps)


def _one_cycle(rate: float, num_steps: int, warmup_steps: int) -> Float64Schedule:
    if warmup_steps != 0:
        raise ValueError(
            "`warmup_steps` must be 0 for a one_cycle schedule. Received: "
            f"warmup_steps={warmup_steps!r}. The cycle already rises over its first half."
        )
    return one_cycle(rate, num_steps)


_BUILDERS: dict[str, Callable[[float, int, int], Float64Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "exponential": _exponential,
    "piecewise": _piecewise,
    "warmup_stable_decay": _warmup_stable_decay,
    "inverse_square_root": _inverse_square_root,
    "one_cycle": _one_cycle,
}

SCHEDULES = tuple(_BUILDERS)
"""The names that `schedule_by_name` takes."""
