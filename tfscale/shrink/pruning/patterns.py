"""Patterns of zeros: which weights are pruned together, or in which groups some are kept.

A pattern sees a weight as matrices, [matrices, inputs, outputs]: a kernel of Conv2D has one matrix
for each position of its window.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

UNSTRUCTURED = "unstructured"
CHANNELS = "channels"
_KEPT_OF = re.compile(r"(\d{1,4}):(\d{1,4})")
_BLOCK = re.compile(r"(\d{1,4})x(\d{1,4})")


@dataclass(frozen=True)
class Axes:
    """What the axes of a weight are, as it is multiplied.

    Attributes:
        matrices: Each index along these is a matrix of its own, such as a position of a window.
        inputs: Those that are summed over.
        outputs: The others.
    """

    matrices: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def as_matrices(self, weight: tf.Tensor) -> tf.Tensor:
        """Returns a weight as [matrices, inputs, outputs]."""
        ordered = tf.transpose(weight, self._order())
        return tf.reshape(ordered, self.sizes(tuple(weight.shape)))

    def as_weight(self, matrices: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
        """Returns what `as_matrices` was given, a weight of `shape`."""
        order = self._order()
        ordered = tf.reshape(matrices, [shape[axis] for axis in order])
        return tf.transpose(ordered, np.argsort(order).tolist())

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Returns the numbers of matrices, inputs and outputs of a weight of `shape`."""
        of = [math.prod(shape[axis] for axis in each) for each in vars(self).values()]
        return of[0], of[1], of[2]

    def _order(self) -> list[int]:
        return [*self.matrices, *self.inputs, *self.outputs]


@dataclass(frozen=True)
class Pattern:
    """Groups of `inputs` x `outputs` neighbouring weights.

    Attributes:
        name: As it was given.
        inputs: Weights of a group along the inputs.
        outputs: And along the outputs.
        kept: Weights that are kept of each group, or None if a group is pruned as a whole.
    """

    name: str
    inputs: int = 1
    outputs: int = 1
    kept: int | None = None

    @classmethod
    def named(cls, name: Any) -> Pattern:
        """Returns the pattern of a name.

        Raises:
            ValueError: If there is none.

        Example:
            >>> Pattern.named("2:4")
            Pattern(name='2:4', inputs=4, outputs=1, kept=2)
        """
        text = name if isinstance(name, str) else ""
        if text in (UNSTRUCTURED, CHANNELS):
            return cls(text)
        if match := _KEPT_OF.fullmatch(text):
            kept, size = map(int, match.groups())
            if 0 < kept < size:
                return cls(text, size, 1, kept)
        if match := _BLOCK.fullmatch(text):
            inputs, outputs = map(int, match.groups())
            if inputs * outputs > 1:
                return cls(text, inputs, outputs)
        raise ValueError(
            '`pattern` must be "unstructured", or "n:m" with 0 < n < m, such as "2:4", or a block '
            'of inputs x outputs, such as "4x1", or "channels". Received: '
            f"pattern={name!r}. Leave it out to prune single weights."
        )

    @property
    def sparsity(self) -> float | None:
        """The only sparsity that it can have at the end, or None."""
        return None if self.kept is None else 1 - self.kept / self.inputs

    def fits(self, sizes: tuple[int, int, int]) -> bool:
        """Tells whether groups cover matrices of [matrices, inputs, outputs]."""
        return sizes[1] % self.inputs == 0 and sizes[2] % self.outputs == 0

    def units(self, sizes: tuple[int, int, int]) -> int:
        """Returns how many weights, or groups that are pruned as a whole, can be chosen from."""
        return math.prod(sizes) // (1 if self.kept else self.inputs * self.outputs)

    def scores(self, scores: tf.Tensor) -> tf.Tensor:
        """Returns the score of each unit, from those of the weights.

        Args:
            scores: [matrices, inputs, outputs]; -inf for weights that are pruned already.

        Returns:
            [units]: the mean of a block; infinite for weights that a group must keep.
        """
        groups = self._grouped(scores)
        if self.kept is None:
            return tf.reduce_mean(groups, axis=1)
        order = tf.argsort(groups, axis=1, stable=True)
        rank = tf.argsort(order, axis=1, stable=True)
        is_kept = rank >= self.inputs - self.kept
        return tf.reshape(tf.where(is_kept, tf.constant(math.inf, scores.dtype), groups), [-1])

    def mask(self, is_kept: tf.Tensor, sizes: tuple[int, int, int]) -> tf.Tensor:
        """Returns which weights are kept, [matrices, inputs, outputs], from the units, [units]."""
        size = self.inputs * self.outputs
        if self.kept is None:
            groups = tf.repeat(is_kept[:, tf.newaxis], size, axis=1)
        else:
            groups = tf.reshape(is_kept, [-1, size])
        matrices, inputs, outputs = sizes
        along = [matrices, inputs // self.inputs, outputs // self.outputs]
        apart = tf.reshape(groups, [*along, self.inputs, self.outputs])
        return tf.reshape(tf.transpose(apart, [0, 1, 3, 2, 4]), sizes)

    def _grouped(self, matrices: tf.Tensor) -> tf.Tensor:
        """Returns the groups, one a row."""
        number, inputs, outputs = matrices.shape
        blocks = [inputs // self.inputs, self.inputs, outputs // self.outputs, self.outputs]
        apart = tf.transpose(tf.reshape(matrices, [number, *blocks]), [0, 1, 3, 2, 4])
        return tf.reshape(apart, [-1, self.inputs * self.outputs])
