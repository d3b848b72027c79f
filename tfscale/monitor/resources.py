"""What training takes of a host and its devices: memory, bytes of the network, energy."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfscale.files.room import resident_memory
from tfscale.monitor.meters import Meters
from tfscale.monitor.network import network_bytes


class Resources:
    """Reads them when a line is written.

    Args:
        meters: What measures energy, or None.
    """

    def __init__(self, meters: Meters | None) -> None:
        self._meters = meters
        self._network = network_bytes()

    def read(self) -> dict[str, Any]:
        """Returns memory now; bytes and joules since the last call, or since this began."""
        network, before = network_bytes(), self._network
        self._network = network
        found: dict[str, Any] = {
            "host_memory": resident_memory(),
            "device_memory": device_memory(),
            "network": {name: network[name] - before.get(name, 0) for name in network},
        }
        if self._meters is not None:
            found["energy"], unread = self._meters.read()
            if unread:
                found["energy_unread"] = unread
        return found


def device_memory() -> dict[str, dict[str, int]]:
    """Returns the memory that TensorFlow has on each GPU: "current" and "peak", by its name.

    Example:
        >>> device_memory() == {} or "GPU:0" in device_memory()
        True
    """
    devices = [f"GPU:{place}" for place, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    return {device: dict(tf.config.experimental.get_memory_info(device)) for device in devices}
