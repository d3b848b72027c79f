"""The objects through which a strategy of TensorFlow starts the collectives of its replicas.

A launcher per replica starts each all-reduce and each gather. What is above it, such as packs and
sparse gradients, needs nothing else, so an engine or the keys of collectives are changed by putting
another launcher in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import cross_device_ops, cross_device_utils


class ReplacedLauncher(cross_device_utils.CollectiveReplicaLauncher):
    """A launcher for the replica of another one.

    Args:
        launcher: The launcher that it replaces.
    """

    def __init__(self, launcher: Any) -> None:
        super().__init__(
            launcher._group_key,
            launcher._group_size,
            launcher._collective_keys,
            launcher._device,
            launcher._options,
        )

    def gather_alike(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the tensors of all replicas, one behind the other along the first dimension.

        Args:
            tensor: This replica's, of the same static shape on all.
        """
        return self._all_gather(tensor, None)


def replace_launchers(strategy: tf.distribute.Strategy, new: Callable[[Any], Any]) -> None:
    """Replaces every launcher of a strategy.

    Args:
        strategy: A new `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
        new: Returns the launcher to use, given the present one.
    """
    for operations in _operations(strategy):
        operations._launchers = [new(launcher) for launcher in operations._launchers]


def first_launcher(strategy: tf.distribute.Strategy) -> Any:
    """Returns the launcher of the first replica of this process."""
    return launcher_of_replica(strategy, 0)


def launcher_of_replica(strategy: tf.distribute.Strategy, index: int) -> Any:
    """Returns the launcher of a replica, by its index among those of this process."""
    return next(_operations(strategy))._launchers[index]


def _operations(strategy: tf.distribute.Strategy) -> Iterator[Any]:
    for name in ("_collective_ops", "_cross_device_ops", "_host_cross_device_ops"):
        operations = getattr(strategy.extended, name, None)
        if isinstance(operations, cross_device_ops.CollectiveAllReduce):
            yield operations
