"""A layer that rounds activations as an 8-bit file will, and follows their range in training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfscale.preparation.model_copy import value_of
from tfscale.shrink.quantization.grids import Grid, grid_of, in_wide_float, rounded_to_grid


@keras.saving.register_keras_serializable(package="tfscale")
class FakeQuantize(keras.layers.Layer):
    """Rounds its input to the 256 numbers between a smallest and a largest activation.

    In training the range follows the smallest and the largest activation of each global batch,

        range <- momentum * range + (1 - momentum) * extremes of the batch before

    and a step rounds with the range that was known before it. So replicas do not wait for each
    other in the forward pass: their extremes travel with the gradients, and the range on N replicas
    is that of one device. A batch with an activation that is not finite is left out.

    Args:
        momentum: Weight of the old range, in [0, 1].
        fixed: Smallest and largest activation, if they do not follow the data: LiteRT has one range
            for a sigmoid.
        kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> layer = FakeQuantize()
        >>> layer.set_range(-1.0, 1.55)
        >>> layer(np.array([[-3.0, 0.004, 0.006]], "float32")).numpy().round(2)
        array([[-1.  ,  0.  ,  0.01]], dtype=float32)

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        fixed: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.supports_masking = True
        # Distances from zero, so that both grow: [-smallest, largest].
        self.reach = self._state("reach")
        self.newest = self._state("newest")
        self.built = True
        if self.fixed is not None:
            self.set_range(*self.fixed)

    def _state(self, name: str) -> Any:
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return self.add_weight(
            shape=(2,), initializer="zeros", trainable=False, dtype=dtype, autocast=False, name=name
        )

    def build(self, input_shape: Any) -> None:
        """The layer has its variables already."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the input, rounded."""
        x = in_wide_float(inputs)
        if training and self.fixed is None:
            self._follow(x)
        reach = tf.cast(self.reach.value, x.dtype)
        return tf.cast(rounded_to_grid(x, grid_of(-reach[0], reach[1])), inputs.dtype)

    def _follow(self, x: Any) -> None:
        """Takes the newest extremes into the range, and notes those of this batch."""
        reach, newest = self.reach.value, self.newest.value
        moved = self.momentum * reach + (1.0 - self.momentum) * newest
        is_known = tf.reduce_all(tf.math.is_finite(newest))
        self.reach.assign(tf.where(is_known, moved, reach))
        # Begun again and then raised: replicas see from the maximum how their copies combine.
        self.newest.assign(tf.fill([2], tf.constant(-float("inf"), newest.dtype)))
        self.newest.assign(tf.maximum(self.newest.value, tf.cast(reach_of(x), newest.dtype)))

    def set_range(self, low: float, high: float) -> None:
        """Sets the range; zero is always in it.

        Args:
            low: Smallest activation.
            high: Largest activation, at least `low`.

        Raises:
            ValueError: If they are not finite or in the wrong order.
        """
        if not -float("inf") < low <= high < float("inf"):
            raise ValueError(
                "`low` and `high` must be finite and in this order. Received: "
                f"low={low!r}, high={high!r} for {self.path or self.name!r}. Check the calibration "
                "data."
            )
        for variable in (self.reach, self.newest):
            variable.assign([max(0.0, -low), max(0.0, high)])

    @property
    def grid(self) -> Grid:
        """The numbers that the output can have, as Python floats."""
        below, above = value_of(self.reach)
        grid = grid_of(-below, above)
        return Grid(float(grid.scale), float(grid.zero))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "momentum": self.momentum, "fixed": self.fixed}


def reach_of(x: Any) -> tf.Tensor:
    """Returns how far a tensor's numbers reach below and above zero: [2], at least 0.

    Example:
        >>> reach_of(tf.constant([-1.0, 3.0])).numpy().tolist()
        [1.0, 3.0]
    """
    extremes = tf.stack([-tf.reduce_min(x), tf.reduce_max(x)])
    return tf.maximum(extremes, tf.zeros_like(extremes))
