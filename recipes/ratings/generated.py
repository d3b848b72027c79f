"""Clicks with a known cause: latent vectors of users and items, and a logistic model of both.

    clicks = GeneratedClicks(num_users=400, num_items=200, num_rows=60_000, seed=0)
    (users, items), clicked = clicks.rows(tf.range(256, dtype=tf.int64))

A row is computed from its index, so any worker can generate any row, and none is stored.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from recipes.ratings.ranking import sigmoid
from recipes.regression.problem import mixed_bits

_STEP = 0x9E3779B97F4A7C15  # of SplitMix64's counter
_DRAWS = 3  # a user, an item, and whether it was clicked


@dataclass(frozen=True)
class GeneratedClicks:
    r"""Rows `(user, item)`, uniform, and clicks of probability `sigmoid(score)`.

        score = 2 <p_user, q_item> / sqrt(d) + b_item

    with standard normal p and q of d elements, and b of standard deviation 1/2. So the best ranking
    of items for a user is known: the order of the scores.

    Attributes:
        num_users: Users. Positive.
        num_items: Items. Positive.
        num_rows: Rows to train on. Positive. The rows after them are for testing.
        seed: Seed of all draws. In `[0, 2**31)`.
        num_test: Rows to test with. Positive.
        latent_dim: d. Positive.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_users: int
    num_items: int
    num_rows: int
    seed: int
    num_test: int = 20_000
    latent_dim: int = 4

    def __post_init__(self) -> None:
        for name in ("num_users", "num_items", "num_rows", "num_test", "latent_dim"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be positive. Received: {name}={getattr(self, name)!r}. "
                    "Choose another value."
                )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"`seed` must be in [0, 2**31). Received: seed={self.seed!r}. Pass 0.")

    @property
    def source(self) -> np.ndarray:
        """The source of a pipeline: the indices of the rows to train on."""
        return np.arange(self.num_rows)

    def rows(self, indices: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Generates the rows at `indices`; always the same ones.

        Args:
            indices: int64 [n], not negative.

        Returns:
            Users and items, int32 [n] each, and clicks, float32 [n], 0 or 1.
        """
        drawn = self._uniform(indices)
        users = tf.cast(drawn[:, 0] * self.num_users, tf.int32)
        items = tf.cast(drawn[:, 1] * self.num_items, tf.int32)
        pairs = tf.stack([users, items], axis=1)
        likely = tf.gather_nd(tf.constant(self.gains), pairs)
        return (users, items), tf.cast(drawn[:, 2] < likely, tf.float32)

    def test_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows for testing: users, items and clicks, [num_test] each."""
        first = self.num_rows
        (users, items), clicks = self.rows(tf.range(first, first + self.num_test, dtype=tf.int64))
        return users.numpy(), items.numpy(), clicks.numpy()

    @functools.cached_property
    def best_scores(self) -> np.ndarray:
        """The scores that the clicks come from, float64 [num_users, num_items]."""
        random = np.random.default_rng([self.seed, 1])
        users = random.normal(size=(self.num_users, self.latent_dim))
        items = random.normal(size=(self.num_items, self.latent_dim))
        biases = random.normal(size=self.num_items) / 2
        return np.asarray(2 / math.sqrt(self.latent_dim) * users @ items.T + biases)

    @functools.cached_property
    def gains(self) -> np.ndarray:
        """The probabilities of a click, float64 [num_users, num_items]."""
        return sigmoid(self.best_scores)

    def relevant(self, k: int) -> np.ndarray:
        """Returns which items are among the `k` best of a user, bool [num_users, num_items]."""
        ranks = np.argsort(np.argsort(-self.best_scores, axis=1), axis=1)
        return np.asarray(ranks < k)

    def _uniform(self, indices: tf.Tensor) -> tf.Tensor:
        """float64 [n, 3], uniform in [0, 1)."""
        draws = tf.range(1, _DRAWS + 1, dtype=tf.int64)
        counter = tf.cast(indices[:, tf.newaxis] * _DRAWS + draws, tf.uint64)
        start = int(np.random.default_rng([self.seed, 2]).integers(2**64, dtype=np.uint64))
        bits = mixed_bits(tf.constant(start, tf.uint64) + counter * tf.constant(_STEP, tf.uint64))
        # 53 bits fill the fraction of a float64.
        bits = tf.bitwise.right_shift(bits, tf.constant(11, tf.uint64))
        return tf.cast(bits, tf.float64) * 2.0**-53
