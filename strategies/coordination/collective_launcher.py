"""Collectives whose keys are used again, so that TensorFlow keeps a bounded number of records.

TensorFlow keeps a record of every (group, instance) key of a collective for as long as the process
lives, 1.6 KB on two CPUs (`CollectiveParamResolverLocal::instance_table_`). Its strategies take a
new instance key at each call, so a training of a million steps keeps a million records.

Here each collective of a traced function has a key of its own, taken at its first call and used at
every later one. That is safe because a device runs its collectives one after another (TensorFlow's
ordering token), and a ring is done on a device only when its neighbour has taken all it sent.

Workers agree on keys because they run the same collectives in the same order, which they must in
any case. A key is bound to what TensorFlow compares, the shape; where the first dimension is known
only as the step runs, as with the rows of an embedding's gradient, the key follows from it.
"""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import cross_device_ops, cross_device_utils

_FIXED = 2**29  # keys of collectives of one shape; TensorFlow counts its own up from 100
_BY_ROWS = 2**30  # from here on, `_MOST_ROWS` keys for each collective whose rows vary
_MOST_ROWS = 2**18
_MOST_BY_ROWS = (2**31 - _BY_ROWS) // _MOST_ROWS


class _Collective(NamedTuple):
    """One collective of a function.

    Attributes:
        kind: Which operation it is.
        dtype: The elements' dtype.
        shape: Shape of the tensor, in which None stands for a number of rows that may vary.
        ordinal: How many like it come before it in its function.
    """

    kind: str
    dtype: tf.DType
    shape: tuple[int | None, ...]
    ordinal: int


class _Launched(threading.local):
    """What this thread is launching; each replica of a mirrored step is traced by its own.

    Attributes:
        now: Kind, tensor and shape of the collective that asks for a key.
        others: The sizes, apart from the rows, of what is gathered.
    """

    now: tuple[str, Any, tf.TensorShape]
    others: Sequence[int | None] = ()


class ReusedKeyLauncher(cross_device_utils.CollectiveReplicaLauncher):
    """TensorFlow's launcher of one replica's collectives, with keys that are used again.

    Args:
        launcher: The one it takes the place of.
    """

    def __init__(self, launcher: Any) -> None:
        super().__init__(
            launcher._group_key,
            launcher._group_size,
            launcher._collective_keys,
            launcher._device,
            launcher._options,
        )
        self._taken: dict[_Collective, tf.Tensor] = {}
        self._counts: Any = weakref.WeakKeyDictionary()
        self._launched = _Launched()

    def all_reduce(self, input_tensor: Any, *arguments: Any, **options: Any) -> Any:
        """Adds up a dense tensor of one shape on all replicas."""
        self._launched.now = ("reduce", input_tensor, input_tensor.shape)
        return super().all_reduce(input_tensor, *arguments, **options)

    def all_gather(self, input_tensor: Any, axis: Any, *arguments: Any, **options: Any) -> Any:
        """Gathers dense tensors whose sizes differ along one axis."""
        known, number = input_tensor.shape, tf.get_static_value(axis)
        if known.rank is not None and number is not None:
            self._launched.others = [n for i, n in enumerate(known) if i != number]
        return super().all_gather(input_tensor, axis, *arguments, **options)

    def all_reduce_indexed_slices(self, input_slices: Any, *arguments: Any, **options: Any) -> Any:
        """Gathers slices from all replicas."""
        self._launched.others = list(input_slices.values.shape[1:])
        return super().all_reduce_indexed_slices(input_slices, *arguments, **options)

    def _all_gather(self, input_tensor: Any, *arguments: Any, **options: Any) -> Any:
        others = self._launched.others
        if None in input_tensor.shape[1:] and input_tensor.shape.rank == 1 + len(others):
            input_tensor.set_shape([None, *others])  # TensorFlow forgets it where it pads
        # Workers may trace with known rows or without; as the step runs they gather the same rows.
        shape = [None, *input_tensor.shape[1:]] if input_tensor.shape.rank else input_tensor.shape
        self._launched.now = ("gather", input_tensor, tf.TensorShape(shape))
        return super()._all_gather(input_tensor, *arguments, **options)

    def _next_instance_key(self) -> tf.Tensor:
        kind, tensor, shape = self._launched.now
        if shape.rank is None or None in shape[1:]:
            return _at_each_call(self._new_key)
        sizes = tuple(shape)
        like = (kind, tensor.dtype, sizes)
        graph = _function_graph()
        ordinal = 0  # an eager one has ended before the next begins
        if graph is not None:
            counts = self._counts.setdefault(graph, collections.Counter())
            ordinal, counts[like] = counts[like], counts[like] + 1
        collective = _Collective(*like, ordinal)
        key = _at_each_call(lambda: self._own_key(collective))
        if None not in sizes:
            return key
        new_key = _at_each_call(self._new_key)
        # A GPU's collective takes its key from the host's memory.
        with tf.device("CPU:0" if "GPU" in self._device else self._device):
            rows = tf.shape(tensor)[0]
            return tf.where(tf.logical_and(key >= 0, rows < _MOST_ROWS), key + rows, new_key)

    def _own_key(self, collective: _Collective) -> tf.Tensor:
        if collective not in self._taken:
            varies = None in collective.shape
            earlier = sum((None in other.shape) == varies for other in self._taken)
            number = _FIXED + earlier
            if varies:
                number = _BY_ROWS + earlier * _MOST_ROWS if earlier < _MOST_BY_ROWS else -1
            self._taken[collective] = _on_host(number)
        return self._taken[collective]

    def _new_key(self) -> tf.Tensor:
        return _on_host(self._collective_keys.get_instance_key(self._group_key, self._device))


def _at_each_call(key: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Returns a key; in a graph one that its function asks for at each call.

    Workers may trace at different times. They run the same collectives in the same order.
    """
    graph = _function_graph()
    if graph is None:
        return key()
    with graph.as_default():
        return graph.capture_call_time_value(
            lambda: _at_each_call(key), tf.TensorSpec([], tf.int32)
        )


def _on_host(number: int) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(np.int32(number))  # TensorFlow keeps every int it has converted


def reuse_keys(strategy: tf.distribute.Strategy) -> None:
    """Makes the collectives of a strategy use their keys again.

    Args:
        strategy: A new `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
    """
    extended = strategy.extended
    for name in ("_collective_ops", "_cross_device_ops", "_host_cross_device_ops"):
        operations = getattr(extended, name, None)
        if isinstance(operations, cross_device_ops.CollectiveAllReduce):
            operations._launchers = [
                launcher if isinstance(launcher, ReusedKeyLauncher) else ReusedKeyLauncher(launcher)
                for launcher in operations._launchers
            ]


def _function_graph() -> Any:
    """The graph of the function being traced, outside of its conditions and loops; None eagerly."""
    if tf.executing_eagerly():
        return None
    graph: Any = tf.compat.v1.get_default_graph()
    while getattr(graph, "is_control_flow_graph", False):
        graph = graph.outer_graph
    return graph
