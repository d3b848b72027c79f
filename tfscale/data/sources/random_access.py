"""Sources with random access: the interface that an input pipeline reads them through.

A source knows its number of examples and takes any of them by index. A source that is made of
others, such as a filtered one, a mixture or packed sequences, is a source too. It may have an order
of its own, and divide an epoch into global batches in its own way.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfscale.data.order import Order


class RandomAccessSource(abc.ABC):
    """Examples that can be taken by index, in any order.

    Attributes:
        num_examples: Number of examples of an epoch. Positive.
        fingerprint: Text that differs if the examples differ, as far as can be found without
            reading them all, for instance from sizes and checksums. It is part of a checkpoint's
            description of the input, and of the key of a cached filter.
        parts: The sources that this one is made of, if it is a composition.
        is_encoded: Whether `take_encoded` differs from `take`.
    """

    num_examples: int
    fingerprint: str
    parts: tuple[RandomAccessSource, ...] = ()
    is_encoded: bool = False

    @abc.abstractmethod
    def take(self, indices: tf.Tensor) -> Any:
        """Returns examples as a batch. Traced in a graph; must accept `n = 0`.

        Args:
            indices: int64 [n], each in `[0, num_indices)`.

        Returns:
            A structure of `tf.Tensor` [n, ...] or `tf.RaggedTensor` of n rows. If `n` is static,
            so are the rows of the tensors.
        """

    def take_encoded(self, indices: tf.Tensor) -> Any:
        """Reads examples without decoding them, so that the two can be timed apart.

        Args:
            indices: int64 [n], each in `[0, num_indices)`.

        Returns:
            A structure of `tf.Tensor` or `tf.RaggedTensor` of n rows, such as the bytes of files.
        """
        return self.take(indices)

    @property
    def num_indices(self) -> int:
        """Examples that `take` knows. A mixture has more than its epochs have."""
        return self.num_examples

    def indices(self, positions: tf.Tensor, epochs: tf.Tensor, order: Order) -> tf.Tensor:
        """Returns which examples are at positions of epochs.

        Args:
            positions: int64 [n], each in `[0, num_examples)`.
            epochs: int64, a scalar or [n]; not negative.
            order: Defines the order of an epoch.

        Returns:
            int64 [n], for `take`.
        """
        return order.indices(positions, epochs, self.num_examples)

    def division(self, batch_size: int, *, drop_remainder: bool) -> Division:
        """Returns how the positions of an epoch are divided into global batches.

        Args:
            batch_size: Examples of a full global batch, in `[1, num_examples]`.
            drop_remainder: Whether a batch that is not full is omitted.
        """
        return EqualBatches(self.num_examples, batch_size, drop_remainder)


class Division(abc.ABC):
    """How the positions of an epoch are divided into global batches.

    Attributes:
        steps: Global batches of an epoch. Positive.
        batch_size: Examples of a full global batch. No batch has more.
        is_even: Whether all batches are full.
    """

    steps: int
    batch_size: int
    is_even: bool

    @abc.abstractmethod
    def bounds(self, steps: tf.Tensor, epoch: tf.Tensor, order: Order) -> Any:
        """Returns the first position of global batches, and the position after their last.

        Args:
            steps: int64 [n], each in `[0, self.steps)`.
            epoch: int64 scalar, not negative.
            order: Defines the order of an epoch.

        Returns:
            Two tensors, int64 [n]. Every batch has at least one position.
        """


@dataclass(frozen=True)
class EqualBatches(Division):
    """Full batches one after the other; the last has the examples that remain.

    Attributes:
        num_examples: Positions of an epoch. Positive.
        batch_size: Examples of a full batch.
        drop_remainder: Whether a last batch that is not full is omitted.
    """

    num_examples: int
    batch_size: int
    drop_remainder: bool

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Global batches of an epoch."""
        full, rest = divmod(self.num_examples, self.batch_size)
        return full + (1 if rest and not self.drop_remainder else 0)

    @property
    def is_even(self) -> bool:  # type: ignore[override]
        """Whether all batches are full."""
        return self.drop_remainder or self.num_examples % self.batch_size == 0

    def bounds(self, steps: tf.Tensor, epoch: tf.Tensor, order: Order) -> Any:
        """Returns the first position of global batches, and the position after their last."""
        start = steps * self.batch_size
        return start, tf.minimum(start + self.batch_size, self.num_examples)
