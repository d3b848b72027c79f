"""Reads and writes the values of Keras variables on all replicas, as NumPy arrays.

Most variables are equal on all replicas, so the first copy is the value. A metric's state differs
by replica, and its value is the sum (`synchronization="on_read"`): all copies are kept, since their
sum in another order would differ in the last bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.coordination.rendezvous import worker_index
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.progress import phase


def is_per_replica(variable: Any) -> bool:
    """Tells whether replicas keep different values."""
    return str(variable.synchronization) == "on_read"


def replica_values(
    strategy: tf.distribute.Strategy, variables: list[Any]
) -> list[np.ndarray[Any, Any]]:
    """Returns, for each variable, every replica's value along a first dimension.

    Several workers call it together; it costs one collective a dtype.

    Args:
        strategy: One of this package.
        variables: Keras variables that each replica keeps for itself.
    """
    local = [
        np.stack([c.numpy() for c in strategy.experimental_local_results(v.value)])
        for v in variables
    ]
    if not is_multi_worker(strategy):
        return local
    found: dict[int, np.ndarray[Any, Any]] = {}
    for dtype in sorted({values.dtype.name for values in local}):
        members = [i for i, values in enumerate(local) if values.dtype.name == dtype]
        rows = np.concatenate([local[i].reshape(len(local[i]), -1) for i in members], axis=1)
        all_rows = gathered_rows(strategy, rows)
        sizes = [local[i][0].size for i in members]
        parts = np.split(all_rows, np.cumsum(sizes)[:-1], axis=1)
        for i, part in zip(members, parts, strict=True):
            found[i] = part.reshape(-1, *local[i].shape[1:])
    return [found[i] for i in range(len(variables))]


def assign_value(
    strategy: tf.distribute.Strategy, variable: Any, value: np.ndarray[Any, Any]
) -> None:
    """Assigns a value on all replicas; each worker does so for its replicas."""
    for copy in strategy.experimental_local_results(variable.value):
        copy.assign(value)


def assign_replica_values(
    strategy: tf.distribute.Strategy, variable: Any, values: np.ndarray[Any, Any]
) -> None:
    """Assigns every replica its part of the sum that is the variable's value.

    If the numbers of replicas and values differ, the first replica gets the sum, the others zero.

    Args:
        strategy: One of this package.
        variable: A Keras variable that each replica keeps for itself.
        values: Values of the replicas of the run that wrote them, along the first dimension.
    """
    num_replicas = strategy.num_replicas_in_sync
    if len(values) != num_replicas:
        total = values.sum(axis=0, dtype=values.dtype)
        values = np.stack([total, *[np.zeros_like(total)] * (num_replicas - 1)])
    copies = strategy.experimental_local_results(variable.value)
    first = worker_index(strategy) * len(copies)
    for copy, value in zip(copies, values[first : first + len(copies)], strict=True):
        copy.assign(value)


def gathered_rows(
    strategy: tf.distribute.Strategy, rows: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Returns the rows of all replicas. Several workers call it together.

    Args:
        strategy: A strategy of several workers.
        rows: One for each replica of this worker, of a shape that is the same on all workers.
    """

    def own(replica: tf.distribute.ValueContext) -> tf.Tensor:
        index = replica.replica_id_in_sync_group % len(rows)
        return tf.constant(rows[index : index + 1])

    per_replica = strategy.experimental_distribute_values_from_function(own)
    with phase("collective"):  # the others may not be there yet
        all_rows: np.ndarray[Any, Any] = _gathering(strategy)(per_replica).numpy()
    return all_rows


# One function a strategy. Outside of a function, TensorFlow 2.21 makes one at every `gather`
# (CollectiveAllReduce._batch_all_gather): each is traced, and 42 KB of it stay.
_GATHERING: weakref.WeakKeyDictionary[tf.distribute.Strategy, Callable[[Any], tf.Tensor]] = (
    weakref.WeakKeyDictionary()
)


def _gathering(strategy: tf.distribute.Strategy) -> Callable[[Any], tf.Tensor]:
    if strategy not in _GATHERING:
        found = weakref.ref(strategy)
        function = tf.function(
            lambda rows: gathered(found(), rows), autograph=False, reduce_retracing=True
        )
        _GATHERING[strategy] = function
    return _GATHERING[strategy]


_CARRIED = (tf.float32, tf.float16, tf.float64, tf.int32, tf.int64)
"""What TensorFlow's collectives gather."""


def gathered(strategy: tf.distribute.Strategy, rows: Any) -> tf.Tensor:
    """Returns the rows of all replicas of all workers, one replica's after another's.

    Args:
        strategy: A strategy of several workers.
        rows: Each replica's rows; as many as it has, of one shape behind the first dimension.

    Raises:
        ValueError: If the rows have a dtype that cannot be sent, such as string.
    """
    dtype = strategy.experimental_local_results(rows)[0].dtype
    if dtype in _CARRIED:
        return strategy.gather(rows, axis=0)
    carrier = _carrier(dtype)
    cast = strategy.run(lambda part: tf.cast(part, carrier), args=(rows,))
    return tf.cast(strategy.gather(cast, axis=0), dtype)


def _carrier(dtype: tf.DType) -> tf.DType:
    """Returns a dtype that has every value of `dtype` and can be gathered."""
    if dtype.is_floating:
        return tf.float32
    if dtype.is_bool or (dtype.is_integer and dtype.size < tf.int32.size):
        return tf.int32
    if dtype == tf.uint32:
        return tf.int64
    raise ValueError(
        "Outputs of `predict` must be numbers that workers can send each other. Received: an "
        f"output of dtype {dtype.name}. Return floats or integers, and convert them after "
        "`predict`."
    )
