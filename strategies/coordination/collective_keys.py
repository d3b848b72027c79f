"""Keys of collectives: each strategy has a range of keys, and reuses them.

TensorFlow names a collective by its key and counts keys from the same start for every strategy. So
the second strategy of a process runs into the first one's collectives: "Shape mismatch in the
collective instance 100" (tensorflow/tensorflow#62790). TensorFlow's own tests move the start, and
so does `own_collective_keys`. Workers agree on it because they build their strategies in the same
order.

TensorFlow keeps a record of every (group, instance) key of a collective for as long as the process
lives, 1.6 KB on two CPUs (`CollectiveParamResolverLocal::instance_table_`). Its strategies take a
new instance key at each call, so a training of a million steps keeps a million records.

Under `reuse_keys` each collective of a traced function has its own key, taken at its first call and
used at every later one. This is safe: a device runs its collectives one after another (TensorFlow's
ordering token), and a ring is finished on a device only when its neighbour has received everything.

Workers agree on these keys because they run the same collectives in the same order, which they must
in any case. A key is bound to what TensorFlow compares, the shape. Where the first dimension is
known only as the step runs, as with the rows of an embedding's gradient, the key follows from it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from strategies.coordination.launchers import ReplacedLauncher, replace_launchers

_FIXED = 2**29  # keys of collectives of one shape; TensorFlow counts its own up from 100
_BY_ROWS = 2**30  # from here on, `_MOST_ROWS` keys for each collective whose rows vary
_MOST_ROWS = 2**18
_MOST_BY_ROWS = (2**31 - _BY_ROWS) // _MOST_ROWS

KEYS_PER_STRATEGY = 100_000

_LOCK = threading.Lock()
_RANGES = itertools.count(1)  # TensorFlow starts at 0, with strategies of other libraries


@contextlib.contextmanager
def own_collective_keys(
    strategy_class: type[tf.distribute.MirroredStrategy]
    | type[tf.distribute.MultiWorkerMirroredStrategy],
) -> Iterator[None]:
    """Gives the strategy that is built inside a range of keys that no other strategy uses.

    Args:
        strategy_class: The class that is about to be constructed; it reads the start of the range
            from a class attribute.
    """
    with _LOCK:
        before = strategy_class._collective_key_base
        strategy_class._collective_key_base = next(_RANGES) * KEYS_PER_STRATEGY
        try:
            yield
        finally:
            strategy_class._collective_key_base = before


class _Collective(NamedTuple):
    """One collective of a function.

    Attributes:
        kind: Which operation it is.
        dtype: The elements' dtype.
        shape: Shape of the tensor; None is a number of rows that may vary.
        ordinal: How many collectives like it come before it in its function.
    """

    kind: str
    dtype: tf.DType
    shape: tuple[int | None, ...]
    ordinal: int


class _Launched(threading.local):
    """What this thread launches. Each replica of a mirrored step is traced by its own thread.

    Attributes:
        now: Kind, tensor and shape of the collective that needs a key.
        others: The sizes of the gathered tensor, except its rows.
    """

    now: tuple[str, Any, tf.TensorShape]
    others: Sequence[int | None] = ()


class ReusedKeyLauncher(ReplacedLauncher):
    """TensorFlow's launcher of one replica's collectives, with keys that are used again.

    Args:
        launcher: The launcher that it replaces.
    """

    def __init__(self, launcher: Any) -> None:
        super().__init__(launcher)
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
            input_tensor.set_shape([None, *others])  # lost where TensorFlow pads
        # Workers may trace with known rows or without; as the step runs they gather the same rows.
        shape = [None, *input_tensor.shape[1:]] if input_tensor.shape.rank else input_tensor.shape
        self._launched.now = ("gather", input_tensor, tf.TensorShape(shape))
        return super()._all_gather(input_tensor, *arguments, **options)

    def gather_alike(self, tensor: tf.Tensor) -> tf.Tensor:
        """Gathers tensors of one static shape: the key is fixed, however many rows there are."""
        self._launched.now = ("gather alike", tensor, tensor.shape)
        return super()._all_gather(tensor, None)

    def _next_instance_key(self) -> tf.Tensor:
        kind, tensor, shape = self._launched.now
        if shape.rank is None or None in shape[1:]:
            return _at_each_call(self._new_key)
        sizes = tuple(shape)
        like = (kind, tensor.dtype, sizes)
        graph = _function_graph()
        ordinal = 0  # an eager collective ends before the next begins
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
    """Returns a key; in a graph, a tensor that its function evaluates at each call.

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
    """Makes the collectives of a strategy reuse their keys.

    Args:
        strategy: A new `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
    """
    replace_launchers(
        strategy,
        lambda one: one if isinstance(one, ReusedKeyLauncher) else ReusedKeyLauncher(one),
    )


def _function_graph() -> Any:
    """The graph of the function being traced, outside of its conditions and loops; None eagerly."""
    if tf.executing_eagerly():
        return None
    graph: Any = tf.compat.v1.get_default_graph()
    while getattr(graph, "is_control_flow_graph", False):
        graph = graph.outer_graph
    return graph
