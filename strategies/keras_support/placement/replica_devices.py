"""The devices of each replica: the one that tf.distribute knows, and others beside it.

tf.distribute counts replicas by their devices, and everything that counts replicas (input, weights
of examples, metrics, seeds) relies on it. So a replica with several devices is known to it by its
first, and the others are recorded here.

A memory plan traces for devices that are not there: its graph names them, and variables stay where
tf.distribute makes them.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_DEVICES: weakref.WeakKeyDictionary[tf.distribute.Strategy, tuple[tuple[str, ...], ...]] = (
    weakref.WeakKeyDictionary()
)

PLANNED = "PLANNED"
"""Type of devices that a graph only names."""


def record_devices(strategy: tf.distribute.Strategy, more: Sequence[Sequence[str]]) -> None:
    """Gives the replicas of a new strategy of one process more devices.

    Args:
        strategy: A strategy whose replicas have one device each.
        more: By replica, the names of its other devices, as many for each.
    """
    first = strategy.extended.worker_devices
    prefix = first[0].rpartition("/device:")[0]
    _DEVICES[strategy] = tuple(
        (lead, *(f"{prefix}/device:{name}" for name in others))
        for lead, others in zip(first, more, strict=True)
    )


def plan_devices(strategy: tf.distribute.Strategy, count: int) -> None:
    """Gives the replica of a strategy more devices, which need not be there, to trace for them.

    Args:
        strategy: A strategy of one replica.
        count: Devices of the replica, with its first. Positive.
    """
    record_devices(strategy, [[f"{PLANNED}:{place}" for place in range(1, count)]])


def are_planned(devices: Sequence[str]) -> bool:
    """Tells whether some of the devices are only named, so that nothing can be on them."""
    return any(f"/device:{PLANNED}:" in device for device in devices)


def planned_place(device: str) -> int:
    """Returns the place of a planned device among those of its replica; 0 for any other."""
    kind, _, place = device.rpartition("/device:")[2].partition(":")
    return int(place) if kind == PLANNED else 0


def devices_by_replica(strategy: Any) -> tuple[tuple[str, ...], ...]:
    """Returns the devices of each replica of this process, its first one first."""
    if strategy in _DEVICES:
        return _DEVICES[strategy]
    return tuple((device,) for device in strategy.extended.worker_devices)


def devices_of_this_replica() -> tuple[str, ...]:
    """Returns the devices of the replica that asks."""
    replica = tf.distribute.get_replica_context()
    index = int(tf.get_static_value(replica.replica_id_in_sync_group))
    return devices_by_replica(replica.strategy)[index]
