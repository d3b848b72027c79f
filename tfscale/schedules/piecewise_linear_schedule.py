"""Piecewise linear schedules: constant, linear decay, one cycle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from strategies.extension import number, sequence, whole_number
from tfscale.schedules.arguments import learning_rate as checked_rate
from tfscale.schedules.float64_schedule import Float64Schedule


@keras.saving.register_keras_serializable(package="tfscale")
class PiecewiseLinear(Float64Schedule):
    """The schedule that `piecewise_linear` returns. Takes the arguments of `piecewise_linear`."""

    def __init__(self, steps: Sequence[float], learning_rates: Sequence[float]) -> None:
        super().__init__()
        self.steps = [number("steps", step) for step in sequence("steps", steps)]
        self.learning_rates = [
            checked_rate("learning_rates", rate)
            for rate in sequence("learning_rates", learning_rates)
        ]
        if not self.steps or len(self.steps) != len(self.learning_rates):
            raise ValueError(
                "`learning_rates` must be as many as the steps, at least one. Received: "
                f"steps={steps!r}, learning_rates={learning_rates!r}. Pass a rate for each step."
            )
        if self.steps[0] != 0 or any(a >= b for a, b in itertools.pairwise(self.steps)):
            raise ValueError(
                f"`steps` must begin with 0 and increase. Received: steps={steps!r}. "
                "Count steps from the start of training."
            )

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        position = ops.cast(step, "float64")
        rate = ops.convert_to_tensor(self.learning_rates[0], "float64")
        corners = zip(self.steps, self.learning_rates, strict=True)
        for (start, left), (end, right) in itertools.pairwise(corners):
            line = left + (right - left) * ((position - start) / (end - start))
            rate = ops.where(position < start, rate, line)
        # Return the last rate exactly: the line reaches it only up to rounding.
        return ops.where(position < self.steps[-1], rate, self.learning_rates[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"steps": self.steps, "learning_rates": self.learning_rates}


def piecewise_linear(steps: Sequence[float], learning_rates: Sequence[float]) -> PiecewiseLinear:
    """Builds a schedule of straight lines between points, constant after the last point.

    Args:
        steps: Optimizer steps of the points, beginning with 0, increasing. May be fractions.
        learning_rates: The rates at the points, at least 0.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If the steps do not increase from 0, or the numbers of steps and rates differ.

    Example:
        >>> rate = piecewise_linear([0, 10, 40], [0.0, 0.3, 0.0])
        >>> [round(float(rate(step)), 6) for step in (0, 5, 10, 20, 50)]
        [0.0, 0.15, 0.3, 0.2, 0.0]
    """
    return PiecewiseLinear(steps, learning_rates)


def constant(learning_rate: float) -> PiecewiseLinear:
    """Builds a schedule with a constant rate, for code that needs a schedule.

    Args:
        learning_rate: The rate, at least 0.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If the rate is negative or not finite.

    Example:
        >>> float(constant(0.5)(1_000_000))
        0.5
    """
    return PiecewiseLinear([0], [checked_rate("learning_rate", learning_rate)])


def linear_decay(
    initial_learning_rate: float, decay_steps: int, end_learning_rate: float = 0.0
) -> PiecewiseLinear:
    """Builds a schedule that decays linearly and then stays constant.

    Args:
        initial_learning_rate: Rate at step 0, at least 0.
        decay_steps: Optimizer steps of the decay. Positive.
        end_learning_rate: Rate from step `decay_steps`, at least 0.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> rate = linear_decay(0.4, decay_steps=4)
        >>> [round(float(rate(step)), 6) for step in range(6)]
        [0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
    """
    decay_steps = whole_number("decay_steps", decay_steps)
    initial = checked_rate("initial_learning_rate", initial_learning_rate)
    end = checked_rate("end_learning_rate", end_learning_rate)
    return PiecewiseLinear([0, decay_steps], [initial, end])


def one_cycle(
    maximum_learning_rate: float,
    num_steps: int,
    *,
    initial_learning_rate: float | None = None,
    final_learning_rate: float | None = None,
    final_steps: int | None = None,
) -> PiecewiseLinear:
    """Builds the 1cycle schedule: a linear rise, an equally long fall, then a final decay.

    The cycle has `num_steps - final_steps` steps, half of them rising from and half falling to
    `initial_learning_rate`. In the last `final_steps` the rate decays to `final_learning_rate`.

    Args:
        maximum_learning_rate: Rate in the middle of the cycle. Positive.
        num_steps: Optimizer steps of the whole training, more than `final_steps`.
        initial_learning_rate: Rate at step 0, at least 0. Default: a tenth of the maximum.
        final_learning_rate: Rate from step `num_steps`. Default: a thousandth of
            `initial_learning_rate`.
        final_steps: Steps of the final decay, at least 1. Default: a tenth of `num_steps`, rounded
            up.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> rate = one_cycle(1.0, 100)
        >>> [round(float(rate(step)), 6) for step in (0, 45, 90, 100)]
        [0.1, 1.0, 0.1, 0.0001]

    Source: Smith and Topin 2017, arXiv:1708.07120. The default initial rate, a tenth of the
    maximum, is advised by Smith 2018, arXiv:1803.09820.
    """
    num_steps = whole_number("num_steps", num_steps, at_least=2)
    maximum = checked_rate("maximum_learning_rate", maximum_learning_rate, is_zero_allowed=False)
    if initial_learning_rate is None:
        initial_learning_rate = maximum / 10
    initial = checked_rate("initial_learning_rate", initial_learning_rate)
    if final_learning_rate is None:
        final_learning_rate = initial / 1000
    final = checked_rate("final_learning_rate", final_learning_rate)
    if final_steps is None:
        final_steps = -(-num_steps // 10)
    final_steps = whole_number("final_steps", final_steps)
    if final_steps >= num_steps:
        raise ValueError(
            f"`final_steps` must be fewer than the {num_steps} steps of training. Received: "
            f"final_steps={final_steps!r}. Keep some steps for the cycle."
        )
    cycle_steps = num_steps - final_steps
    return PiecewiseLinear(
        [0, cycle_steps / 2, cycle_steps, num_steps],
        [initial, maximum, initial, final],
    )
