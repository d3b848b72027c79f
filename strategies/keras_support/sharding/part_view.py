"""What an optimizer's update sees: of each variable, the part of its replica.

While a replica updates, its Keras variables show their parts: `variable.value` and its shape are
those of the part, and assignments go to it. Keras's own update code then runs unchanged on parts.
Replicas are traced by threads that take turns, and nothing inside waits, so only one sees it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.keras_support.sharding.cuts import Cut
from strategies.keras_support.sharding.sharded_value import computes_as_tensor, is_sharded


class PartView:
    """A replica's part of a variable, with what an optimizer uses of a `tf.Variable`.

    Args:
        variable: The replica's own copy of the whole, or its part.
        cut: The division, if `variable` is the whole; None if it is the part.
        replica: The replica's index.
        identity: What the optimizer knows the variable by: its `_unique_id`.
        strategy: The strategy of the replicas.
    """

    def __init__(
        self, variable: Any, cut: Cut | None, replica: int, identity: str, strategy: Any
    ) -> None:
        self.distribute_strategy = strategy
        self._aggregation = tf.VariableAggregation.NONE
        self.dtype = variable.dtype
        self.name = variable.name
        self.device = variable.device
        self._variable = variable
        self._cut = None if cut is None or cut.is_whole(replica) else cut
        self._replica = replica
        self._unique_id = identity
        self._thread = threading.get_ident()
        self.shape = variable.shape if cut is None else tf.TensorShape(cut.part_shape(replica))

    @property
    def has_rows(self) -> bool:
        """Whether the replica has any of the variable."""
        return bool(self.shape.num_elements())

    def read_value(self) -> tf.Tensor:
        """Returns the part.

        Raises:
            RuntimeError: In another thread than that of the update.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"Weights cannot be read while an optimizer updates parts of them. Received: a "
                f"read of {self.name!r} in thread {threading.current_thread().name!r}. Read them "
                "in a callback, or between steps."
            )
        if not self.has_rows:
            return tf.zeros(self.shape, self.dtype)
        whole = tf.convert_to_tensor(self._variable)
        return whole if self._cut is None else whole[self._cut.slices(self._replica)]

    def numpy(self) -> Any:
        """Returns `read_value` as an array."""
        return self.read_value().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.numpy(), dtype)

    def value(self) -> tf.Tensor:
        """Returns `read_value`."""
        return self.read_value()

    def assign(self, value: Any, *_: Any) -> PartView:
        """Assigns the part."""
        value = tf.cast(tf.convert_to_tensor(value), self.dtype)
        if not self.has_rows:
            return self
        # Not its rows alone: TensorFlow copies a variable of which rows were assigned in each read.
        self._variable.assign(value if self._cut is None else self._whole_with(value, self._cut))
        return self

    def _whole_with(self, part: tf.Tensor, cut: Cut) -> tf.Tensor:
        first, stop = cut.bounds[self._replica], cut.bounds[self._replica + 1]
        sizes = [first, stop - first, cut.bounds[-1] - stop]
        before, _, after = tf.split(tf.convert_to_tensor(self._variable), sizes, cut.axis)
        return tf.concat([before, part, after], cut.axis)

    def assign_add(self, value: Any, *_: Any) -> PartView:
        """Adds to the part."""
        return self.assign(self.read_value() + tf.cast(value, self.dtype))

    def assign_sub(self, value: Any, *_: Any) -> PartView:
        """Subtracts from the part."""
        return self.assign(self.read_value() - tf.cast(value, self.dtype))

    def scatter_add(self, rows: tf.IndexedSlices) -> PartView:
        """Adds rows to the part."""
        return self.assign_add(tf.convert_to_tensor(rows))

    def scatter_sub(self, rows: tf.IndexedSlices) -> PartView:
        """Subtracts rows from the part."""
        return self.assign_sub(tf.convert_to_tensor(rows))

    def scatter_update(self, rows: tf.IndexedSlices) -> PartView:
        """Assigns rows of the part."""
        indices = tf.expand_dims(rows.indices, -1)
        return self.assign(tf.tensor_scatter_nd_update(self.read_value(), indices, rows.values))

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.read_value(), dtype=dtype, name=name)


computes_as_tensor(PartView)


@contextlib.contextmanager
def parts_shown(variables: Iterable[Any], replica: int, device_index: int) -> Iterator[None]:
    """Lets variables show the parts of one replica.

    Args:
        variables: Keras variables whose value is in parts, or that have a `part_cut`.
        replica: The replica's index over all workers.
        device_index: Its index among the replicas of this process.
    """
    hidden: list[tuple[Any, Any, Any, Any, Any]] = []
    try:
        for variable in variables:
            view = _view(variable, replica, device_index)
            hidden.append(
                (
                    variable,
                    variable._value,
                    variable._shape,
                    variable._ndim,
                    variable._constraint,
                )
            )
            variable._value = view
            variable._shape = tuple(view.shape.as_list())
            variable._ndim = len(variable._shape)
            if not view.has_rows:
                variable._constraint = None
        yield
    finally:
        for variable, value, shape, ndim, constraint in reversed(hidden):
            variable._value = value
            variable._shape = shape
            variable._ndim = ndim
            variable._constraint = constraint


def _view(variable: Any, replica: int, device_index: int) -> PartView:
    value = variable._value
    if is_sharded(variable):
        part = value.parts[replica]
        return PartView(part, None, replica, value._unique_id, value.distribute_strategy)
    strategy = value.distribute_strategy
    own = strategy.experimental_local_results(value)[device_index]
    return PartView(own, variable.part_cut, replica, value._unique_id, strategy)
