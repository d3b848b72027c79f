"""On which device of each replica a variable is made.

tf.distribute makes a variable on the first device of each replica, or where another variable is.
Inside of `made_on(devices)` it is made on other devices; a variable that exists moves there with
its value. Slots of optimizers are made where their variable is: tf.distribute's own rule.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.keras_support.placement.replica_devices import are_planned, devices_by_replica


@dataclass(frozen=True)
class _Places:
    """Stands in for the variable next to which tf.distribute makes another."""

    _devices: tuple[str, ...]


class _Making(threading.local):
    """The devices, by replica, of the variables that this thread makes, or None."""

    devices: tuple[str, ...] | None = None


_MAKING = _Making()


@contextlib.contextmanager
def made_on(strategy: tf.distribute.Strategy, devices: Sequence[str]) -> Iterator[None]:
    """Makes variables on given devices; where others of the strategy are only planned, as usual.

    Args:
        strategy: Of the variables, in whose scope they are made.
        devices: By replica of this process.
    """
    places = tuple(devices)
    if are_planned([each for of_replica in devices_by_replica(strategy) for each in of_replica]):
        yield
        return

    def beside(next_creator: Any, **kwargs: Any) -> Any:
        if kwargs.get("colocate_with") is None:
            kwargs["colocate_with"] = _Places(places)
        return next_creator(**kwargs)

    with parts_on(places), strategy.scope(), tf.variable_creator_scope(beside):
        yield


@contextlib.contextmanager
def parts_on(devices: Sequence[str]) -> Iterator[None]:
    """Makes the parts of sharded variables on given devices, by replica of this process."""
    outer, _MAKING.devices = _MAKING.devices, tuple(devices)
    try:
        yield
    finally:
        _MAKING.devices = outer


def devices_for_parts(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    """Returns where the parts of a sharded variable are made, by replica of this process."""
    return _MAKING.devices or tuple(strategy.extended.worker_devices)


def devices_of(variable: Any) -> tuple[str, ...]:
    """Returns the devices of a Keras variable's copies or parts, by replica of this process."""
    value = variable._value
    parts = getattr(value, "parts", None)
    if parts is not None:  # sharded
        return tuple(part.device for part in parts if part is not None)
    return tuple(getattr(value, "_devices", (value.device,)))  # under one device it is plain


def move(variable: Any, strategy: tf.distribute.Strategy, devices: Sequence[str]) -> None:
    """Moves a Keras variable to other devices; not if they are only planned.

    Args:
        variable: Made under `strategy`.
        strategy: Of one process.
        devices: By replica.
    """
    if are_planned(devices) or devices_of(variable) == tuple(devices):
        return
    if hasattr(variable._value, "parts"):  # sharded: stays divided as it is
        variable._value.move(devices)
        return
    value = variable.numpy()
    with tf.init_scope(), made_on(strategy, devices):
        variable._initialize(value)
