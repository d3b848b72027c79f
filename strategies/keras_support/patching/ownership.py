"""Which strategies this package built: the patches act under these only."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import tensorflow as tf

_OWNED: weakref.WeakSet[tf.distribute.Strategy] = weakref.WeakSet()


class Built(NamedTuple):
    """What is known of a strategy that was built, even if it no longer exists.

    Attributes:
        trains_on_several: Whether it trains on several replicas, or on other tasks.
        is_multi_worker: Whether it trains in several processes that take every step together.
    """

    trains_on_several: bool
    is_multi_worker: bool


_BUILT: set[Built] = set()


def adopt(strategy: tf.distribute.Strategy) -> None:
    """Marks `strategy` as built by this package."""
    _OWNED.add(strategy)
    is_large = strategy.num_replicas_in_sync > 1 or is_asynchronous(strategy)
    _BUILT.add(Built(is_large, is_large and is_multi_worker(strategy)))


def what_was_built() -> frozenset[Built]:
    """Returns which kinds of strategies factories of this package built in this process."""
    return frozenset(_BUILT)


def is_owned(strategy: object) -> bool:
    """Tells whether `strategy` was built by one of this package's factories."""
    return strategy in _OWNED


def described(strategy: tf.distribute.Strategy) -> str:
    """Returns the class and the size of a strategy, for messages.

    Example:
        >>> described(tf.distribute.OneDeviceStrategy("CPU:0"))
        'OneDeviceStrategy (1 replica)'
    """
    replicas = strategy.num_replicas_in_sync
    return f"{type(strategy).__name__} ({replicas} replica{'s' if replicas > 1 else ''})"


def has_copies(variable: Any, strategy: object) -> bool:
    """Tells whether every replica of `strategy` has its own copy of a Keras variable."""
    return getattr(variable._value, "distribute_strategy", None) is strategy


def is_asynchronous(strategy: object) -> bool:
    """Tells whether the workers of `strategy` train asynchronously."""
    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether `strategy` trains in several processes that take every step together."""
    return not is_asynchronous(strategy) and bool(strategy.extended._in_multi_worker_mode())


def is_on_server(variable: Any) -> bool:
    """Tells whether a Keras variable is on a parameter server.

    Args:
        variable: A `keras.Variable`, perhaps one that has no value yet.
    """
    device = getattr(variable._value, "device", None)
    return bool(device) and tf.DeviceSpec.from_string(device).job == "ps"
