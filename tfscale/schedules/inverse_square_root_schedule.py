"""The Transformer's schedule: a linear rise, then decay with the inverse square root."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from strategies.extension import whole_number
from tfscale.schedules.arguments import learning_rate
from tfscale.schedules.float64_schedule import Float64Schedule


@keras.saving.register_keras_serializable(package="tfscale")
class InverseSquareRootDecay(Float64Schedule):
    """The schedule that `inverse_square_root_decay` returns. Takes its arguments."""

    def __init__(self, maximum_learning_rate: float, warmup_steps: int) -> None:
        super().__init__()
        self.maximum_learning_rate = learning_rate("maximum_learning_rate", maximum_learning_rate)
        self.warmup_steps = whole_number("warmup_steps", warmup_steps)

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 step."""
        # Section 5.3 counts steps from 1, Keras from 0.
        position = ops.cast(step, "float64") + 1
        rising = position / self.warmup_steps
        falling = ops.sqrt(self.warmup_steps / position)
        return self.maximum_learning_rate * ops.minimum(rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            "maximum_learning_rate": self.maximum_learning_rate,
            "warmup_steps": self.warmup_steps,
        }


def inverse_square_root_decay(
    maximum_learning_rate: float, warmup_steps: int
) -> InverseSquareRootDecay:
    """Builds the schedule of the Transformer, including its warm-up.

    With t = step + 1 and n = `warmup_steps` the rate is `maximum * min(t / n, sqrt(n / t))`. The
    paper uses `maximum_learning_rate = (d_model * n) ** -0.5` with n = 4000.

    Args:
        maximum_learning_rate: The maximum, reached at step n - 1. At least 0.
        warmup_steps: Optimizer steps of the warm-up. Positive.

    Returns:
        A `LearningRateSchedule`, computed in float64.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> rate = inverse_square_root_decay(1.0, warmup_steps=4)
        >>> [round(float(rate(step)), 6) for step in (0, 1, 3, 15)]
        [0.25, 0.5, 1.0, 0.5]

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 5.3.
    """
    return InverseSquareRootDecay(maximum_learning_rate, warmup_steps)
