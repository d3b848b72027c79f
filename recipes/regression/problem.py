"""A least-squares problem of any size: rows are computed from their index and not stored.

    problem = LinearProblem(num_rows=10**9, num_features=10, condition=10.0, noise=0.1, seed=0)
    inputs, targets = problem.rows(tf.constant([5, 999_999_999], tf.int64))

Nothing is stored or drawn in order, so any worker can generate any row when it needs it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

# The generator SplitMix64: the step of its counter, and the shifts and multipliers of its mixer.
_STEP = 0x9E3779B97F4A7C15
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_ROW_CHUNK = 8192


@dataclass(frozen=True)
class LinearProblem:
    r"""Rows `x` and targets `y = x . w + noise e`, with errors of variance 1 and mean 0.

    Features are uniform, of mean 0, scaled so that their covariance has eigenvalues from 1 down to
    `1 / condition`, evenly spaced in the logarithm, and then rotated at random. Without the
    rotation, an optimizer that scales each coordinate would undo the scaling.

    Attributes:
        num_rows: Rows. Positive.
        num_features: Features of a row. Positive.
        condition: Condition number of the loss's Hessian, largest by smallest curvature, in the
            limit of many rows. At least 1.
        noise: Standard deviation of the targets' errors. Not negative.
        seed: Seed of coefficients, rotation, rows and errors. In `[0, 2**31)`.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_rows: int
    num_features: int
    condition: float
    noise: float
    seed: int

    def __post_init__(self) -> None:
        for name, is_right, rule in (
            ("num_rows", self.num_rows >= 1, "positive"),
            ("num_features", self.num_features >= 1, "positive"),
            ("condition", 1 <= self.condition < math.inf, "at least 1 and finite"),
            ("noise", 0 <= self.noise < math.inf, "at least 0 and finite"),
            ("seed", 0 <= self.seed < 2**31, "in [0, 2**31)"),
        ):
            if not is_right:
                value = getattr(self, name)
                raise ValueError(
                    f"`{name}` must be {rule}. Received: {name}={value!r}. Choose another value."
                )

    @functools.cached_property
    def coefficients(self) -> np.ndarray:
        """The true coefficients, float64 [num_features], of length 1."""
        drawn = np.random.default_rng([self.seed, 1]).normal(size=self.num_features)
        return np.asarray(drawn / np.linalg.norm(drawn))

    @property
    def largest_square(self) -> float:
        """The largest squared length that a row can have."""
        return 3 * float(np.sum(self._scales**2))

    def rows(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Generates the rows at `indices`; always the same ones.

        Args:
            indices: int64 [n], each in `[0, num_rows)`.

        Returns:
            Inputs [n, num_features] and targets [n, 1], in the default float type.
        """
        drawn = self._uniform(indices)
        inputs = tf.matmul(drawn[:, :-1], tf.constant(self._features))
        targets = tf.matmul(inputs, tf.constant(self.coefficients[:, np.newaxis]))
        targets += self.noise * drawn[:, -1:]
        floatx = keras.config.floatx()
        return tf.cast(inputs, floatx), tf.cast(targets, floatx)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields all rows, a few thousand at a time: inputs [n, num_features], targets [n, 1]."""

        def chunk(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            stop = tf.minimum(start + _ROW_CHUNK, self.num_rows)
            return self.rows(tf.range(start, stop, dtype=tf.int64))

        starts = tf.data.Dataset.range(0, self.num_rows, _ROW_CHUNK)
        yield from starts.map(chunk).prefetch(2).as_numpy_iterator()

    @functools.cached_property
    def _scales(self) -> np.ndarray:
        return np.geomspace(1.0, self.condition**-0.5, self.num_features)

    @functools.cached_property
    def _features(self) -> np.ndarray:
        """Maps independent draws of variance 1 to features."""
        drawn = np.random.default_rng([self.seed, 2]).normal(size=[self.num_features] * 2)
        rotation, _ = np.linalg.qr(drawn)
        return np.asarray(self._scales[:, np.newaxis] * rotation)

    def _uniform(self, indices: tf.Tensor) -> tf.Tensor:
        """float64 [n, num_features + 1], uniform of mean 0 and variance 1."""
        width = self.num_features + 1
        columns = tf.range(1, width + 1, dtype=tf.int64)
        counter = tf.cast(indices[:, tf.newaxis] * width + columns, tf.uint64)
        start = int(np.random.default_rng([self.seed, 3]).integers(2**64, dtype=np.uint64))
        bits = tf.constant(start, tf.uint64) + counter * tf.constant(_STEP, tf.uint64)
        bits = tf.bitwise.right_shift(mixed_bits(bits), tf.constant(11, tf.uint64))
        # 53 bits fill the fraction of a float64; their mean is half of one step below 1/2.
        unit = (tf.cast(bits, tf.float64) + 0.5) * 2.0**-53
        return (2 * unit - 1) * math.sqrt(3)


def mixed_bits(bits: tf.Tensor) -> tf.Tensor:
    """Returns for each uint64 another one, in which every bit depends on all of the first.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA, with
    the constants of Stafford's variant 13, as Java's SplittableRandom has them.
    """
    for shift, multiplier in _MIXERS:
        bits = _shifted_in(bits, shift) * tf.constant(multiplier, tf.uint64)
    return _shifted_in(bits, 31)


def _shifted_in(bits: tf.Tensor, shift: int) -> tf.Tensor:
    shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64))
    return tf.bitwise.bitwise_xor(bits, shifted)
