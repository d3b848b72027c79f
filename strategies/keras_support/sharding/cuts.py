"""How a variable is divided among the replicas: by rows, or whole to one of them.

An elementwise optimizer (Adam, SGD) computes each element from the same element of the gradient and
of its slots, so a variable can be cut anywhere; it is cut along its largest axis, into parts that
differ by one row at most. An optimizer that looks at a whole variable (LAMB's norms, Muon's
matrices) gets whole variables, the largest first, each to the replica that has least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


@dataclass(frozen=True)
class Cut:
    """The division of one variable.

    Attributes:
        shape: Of the variable.
        axis: The axis that is divided; of no meaning for a scalar.
        bounds: Replica r has the rows from `bounds[r]` to `bounds[r + 1]` of that axis. A scalar
            has one row.
    """

    shape: tuple[int, ...]
    axis: int
    bounds: tuple[int, ...]

    @property
    def num_parts(self) -> int:
        """The number of replicas."""
        return len(self.bounds) - 1

    def rows(self, replica: int) -> int:
        """Returns the rows of a replica's part."""
        return self.bounds[replica + 1] - self.bounds[replica]

    def is_whole(self, replica: int) -> bool:
        """Tells whether a replica has the whole variable."""
        return self.rows(replica) == self.bounds[-1]

    def part_shape(self, replica: int) -> tuple[int, ...]:
        """Returns the shape of a replica's part: `(0,)` if it has none."""
        if not self.rows(replica):
            return (0,)
        if not self.shape:
            return ()
        return (*self.shape[: self.axis], self.rows(replica), *self.shape[self.axis + 1 :])

    def part_size(self, replica: int) -> int:
        """Returns the elements of a replica's part."""
        return math.prod(self.part_shape(replica))

    def slices(self, replica: int) -> tuple[slice, ...]:
        """Returns the place of a replica's part in a variable that is no scalar."""
        own = slice(self.bounds[replica], self.bounds[replica + 1])
        return (*[slice(None)] * self.axis, own)

    def take(self, whole: Any, replica: int) -> Any:
        """Returns a replica's part of a tensor, in its own memory, or of an array."""
        if not self.rows(replica):
            return tf.zeros([0], whole.dtype) if tf.is_tensor(whole) else whole.reshape(-1)[:0]
        part = whole if self.is_whole(replica) else whole[self.slices(replica)]
        return in_own_memory(part) if tf.is_tensor(whole) else part

    def take_rows(self, rows: tf.IndexedSlices, replica: int) -> Any:
        """Returns a replica's part of the gradient of a lookup, with the rows in their order."""
        if self.is_whole(replica):
            return rows
        if not self.rows(replica):
            return tf.zeros([0], rows.dtype)
        shape = tf.constant(self.part_shape(replica), rows.indices.dtype)
        if self.axis:
            return tf.IndexedSlices(rows.values[self.slices(replica)], rows.indices, shape)
        first, stop = self.bounds[replica], self.bounds[replica + 1]
        is_own = (rows.indices >= first) & (rows.indices < stop)
        return tf.IndexedSlices(
            tf.boolean_mask(rows.values, is_own),
            tf.boolean_mask(rows.indices, is_own) - first,
            shape,
        )

    @property
    def is_even(self) -> bool:
        """Whether all replicas have parts of the same shape."""
        return bool(self.shape) and len({self.rows(r) for r in range(self.num_parts)}) == 1

    def stacked(self, parts: tf.Tensor) -> tf.Tensor:
        """Returns the whole tensor from the elements of all parts, one part behind the other.

        Few operations, and no copy if the first axis is divided. Only for an even division.
        """
        before, behind = self.shape[: self.axis], self.shape[self.axis + 1 :]
        if self.axis:
            parts = tf.reshape(parts, [self.num_parts, *before, self.rows(0), *behind])
            places = [*range(1, self.axis + 1), 0, *range(self.axis + 1, len(self.shape) + 1)]
            parts = tf.transpose(parts, places)
        return tf.reshape(parts, self.shape)

    def joined(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the whole tensor from the parts of all replicas."""
        present = [part for r, part in enumerate(parts) if self.rows(r)]
        if not present:
            return tf.zeros(self.shape, parts[0].dtype)
        if len(present) == 1:
            return tf.identity(present[0])
        return tf.concat(present, axis=self.axis)


@tf.custom_gradient
def in_own_memory(tensor: tf.Tensor) -> Any:
    """Returns a copy, so that what the tensor is a part of can be freed.

    TensorFlow gives rows of a tensor without copying them, and computes in place. So a slot that is
    computed from rows of a gradient, or a variable that begins as rows of an initial value, would
    keep all of that in memory as long as it lives.
    """
    return tf.raw_ops.DeepCopy(x=tensor), lambda upstream: upstream


def by_rows(shape: Sequence[int], replicas: int) -> Cut:
    """Returns the division of a variable into parts as equal as possible.

    Args:
        shape: Of the variable.
        replicas: Number of parts.

    Example:
        >>> by_rows((3, 8), 3).bounds
        (0, 2, 5, 8)
    """
    shape = tuple(int(size) for size in shape)
    axis = max(range(len(shape)), key=lambda i: (shape[i], -i)) if shape else 0
    rows = shape[axis] if shape else 1
    return Cut(shape, axis, tuple(i * rows // replicas for i in range(replicas + 1)))


def owned(shape: Sequence[int], owner: int, replicas: int) -> Cut:
    """Returns the division that gives one replica the whole variable."""
    shape = tuple(int(size) for size in shape)
    rows = shape[0] if shape else 1
    return Cut(shape, 0, tuple(rows if i > owner else 0 for i in range(replicas + 1)))


def cuts_for(optimizer: Any, variables: Sequence[Any], replicas: int) -> list[Cut]:
    """Returns how an optimizer's variables are divided.

    A variable with a constraint stays whole, because a constraint may look at all of it.

    Args:
        optimizer: A Keras optimizer; of a `LossScaleOptimizer` the inner one decides.
        variables: Keras variables, in the optimizer's order.
        replicas: Number of parts.
    """
    is_cut = [is_elementwise(optimizer) and v.constraint is None for v in variables]
    owners = _owners(variables, is_cut, replicas)
    return [
        by_rows(v.shape, replicas) if cut else owned(v.shape, owner, replicas)
        for v, cut, owner in zip(variables, is_cut, owners, strict=True)
    ]


def is_elementwise(optimizer: Any) -> bool:
    """Tells whether an optimizer updates each element of a variable by itself.

    A subclass may not, so it is treated as one that does not.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    return is_elementwise(inner) if inner is not None else type(optimizer) in _ELEMENTWISE


def _owners(variables: Sequence[Any], is_cut: Sequence[bool], replicas: int) -> list[int]:
    """Returns an owner of each variable: the largest go first, to the replica with least."""
    sizes = [math.prod(v.shape) for v in variables]
    loads, owners = [0] * replicas, [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if is_cut[i]:
            continue
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += sizes[i]
    return owners
