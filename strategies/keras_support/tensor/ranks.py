"""For which device of its replica a layer is computing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from strategies.keras_support.placement.replica_devices import (
    devices_by_replica,
    devices_of_this_replica,
)


class _Computing(threading.local):
    """The place among its replica's devices for which this thread computes, or None."""

    rank: int | None = None


_COMPUTING = _Computing()


def own_rank() -> int | None:
    """Returns for which device of the replica a layer computes; None for all of them together."""
    return _COMPUTING.rank


@contextlib.contextmanager
def on_rank(rank: int | None, devices: Sequence[str | None] = ()) -> Iterator[None]:
    """Computes for one device of the replica, and on it.

    Args:
        rank: Its place among the devices; None ends it for what is inside.
        devices: Of the replica, from `devices_for`. Empty leaves the device as it is.
    """
    outer, _COMPUTING.rank = _COMPUTING.rank, rank
    device = None if rank is None or not devices else devices[rank]
    try:
        with contextlib.nullcontext() if device is None else tf.device(device):
            yield
    finally:
        _COMPUTING.rank = outer


def devices_for(count: int) -> list[str | None]:
    """Returns the devices of the replica that asks; `count` times None outside of a replica."""
    replica = tf.distribute.get_replica_context()
    if replica is not None:
        devices = devices_by_replica(replica.strategy)
        if len(devices[0]) == count and tf.distribute.has_strategy():
            return list(devices_of_this_replica())
    return [None] * count
