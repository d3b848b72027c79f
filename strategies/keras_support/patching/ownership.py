"""Which strategies this package built: the patches act under these only."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

_OWNED: weakref.WeakSet[tf.distribute.Strategy] = weakref.WeakSet()


def adopt(strategy: tf.distribute.Strategy) -> None:
    """Marks `strategy` as built by this package."""
    _OWNED.add(strategy)


def is_owned(strategy: object) -> bool:
    """Tells whether `strategy` was built by one of this package's factories."""
    return strategy in _OWNED


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
