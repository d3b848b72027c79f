"""The arithmetic of eight bits: grids of numbers, rounding to them, and the gradient past it.

An integer q in [-128, 127] stands for the number scale * (q - zero_point). Weights use q in
[-127, 127] and zero point 0, with a scale for each output channel; activations one scale and zero
point for a tensor. Zero is on every grid, so what is zero stays zero. This is the arithmetic of
LiteRT, in which an integer file computes.

Rounding has no useful gradient. The gradient goes straight through: of a number inside the range it
is 1, of one outside 0.

Source: Jacob et al. 2018, arXiv:1712.05877, sections 2 and 3; LiteRT's 8-bit quantization
specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

LEVELS = 255
"""Steps between the smallest and the largest activation."""
_WEIGHT_LEVELS = 127
_NARROWEST = 1e-6
"""Width of the range of a tensor that is all zero, so that its scale is not zero."""


@dataclass(frozen=True)
class Grid:
    """The numbers that an 8-bit activation can have.

    Attributes:
        scale: Between two neighbours. Positive.
        zero: How many numbers of the grid are below zero, from 0 to 255.
    """

    scale: Any
    zero: Any

    @property
    def lowest(self) -> Any:
        """The smallest number."""
        return -self.zero * self.scale

    @property
    def highest(self) -> Any:
        """The largest number."""
        return (LEVELS - self.zero) * self.scale


def grid_of(low: Any, high: Any) -> Grid:
    """Returns the grid for a range, moved by less than a step so that zero is on it.

    Args:
        low: Smallest number, at most 0. A tensor or NumPy scalar.
        high: Largest number, at least 0.

    Example:
        >>> grid = grid_of(np.float32(-1.0), np.float32(1.55))
        >>> round(float(grid.scale), 6), float(grid.zero)
        (0.01, 100.0)
    """
    ops = keras.ops
    scale = ops.maximum(high - low, _NARROWEST) / LEVELS
    return Grid(scale, ops.clip(ops.floor(-low / scale + 0.5), 0, LEVELS))


def rounded_to_grid(x: Any, grid: Grid) -> Any:
    """Returns `x` rounded to a grid; its gradient is 1 inside the range and 0 outside.

    Args:
        x: A tensor of floats.
        grid: Of the same dtype.
    """
    ops = keras.ops
    inside = ops.clip(x, grid.lowest, grid.highest)
    rounded = (ops.floor(inside / grid.scale + grid.zero + 0.5) - grid.zero) * grid.scale
    return _straight_through(inside, rounded)


def weight_scale(weights: Any, axes: Sequence[int]) -> Any:
    """Returns the scale of each channel: a 127th of its largest magnitude; 1/127 if it is zero.

    Args:
        weights: A tensor.
        axes: Those that one channel spans.

    Returns:
        A tensor with size 1 along `axes`.

    Example:
        >>> weight_scale(np.array([[1.27, 0.0], [-0.5, 0.0]]), [0]).numpy().round(4).tolist()
        [[0.01, 0.0079]]
    """
    ops = keras.ops
    largest = ops.max(ops.abs(weights), axis=tuple(axes), keepdims=True)
    return ops.where(largest > 0, largest, ops.ones_like(largest)) / _WEIGHT_LEVELS


def rounded_weights(weights: Any, axes: Sequence[int]) -> Any:
    """Returns weights rounded to 8 bits, each channel with its own scale; the gradient is 1.

    Args:
        weights: A tensor of floats.
        axes: Those that one channel spans.
    """
    ops = keras.ops
    scale = ops.stop_gradient(weight_scale(weights, axes))
    steps = ops.clip(ops.floor(weights / scale + 0.5), -_WEIGHT_LEVELS, _WEIGHT_LEVELS)
    return _straight_through(weights, steps * scale)


def in_wide_float(value: Any) -> Any:
    """Casts to float32 at least: half precision would move the grid itself."""
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.float64 else tf.cast(value, tf.float32)


def _straight_through(value: Any, rounded: Any) -> Any:
    # Exact: the two are within a factor of two, or one is zero, so their difference is a float.
    return value + keras.ops.stop_gradient(rounded - value)
