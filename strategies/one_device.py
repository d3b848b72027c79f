"""One device: the reference for every other strategy."""

from __future__ import annotations

import tensorflow as tf

from strategies.announcement import announce
from strategies.arguments import text
from strategies.devices import cpu_devices, gpu_devices
from strategies.keras_support import support


def one_device_strategy(device: str | None = None) -> tf.distribute.OneDeviceStrategy:
    """Builds a strategy that trains on a single device.

    Use it to run a script for many replicas on one device, with the same input and steps.

    Args:
        device: A device such as `"GPU:1"`. None takes the first GPU, or the CPU if there is none.

    Returns:
        A `tf.distribute.OneDeviceStrategy`.

    Raises:
        ValueError: If the host has no such device.

    Example:
        >>> one_device_strategy("CPU:0").num_replicas_in_sync
        1
    """
    known = [*gpu_devices(), *cpu_devices(1)]
    chosen = known[0] if device is None else text("device", device)
    canonical = chosen.removeprefix("/").removeprefix("device:").upper()
    if canonical not in known:
        raise ValueError(
            f"`device` must be a device of this host. Received: device={device!r}. Choose from "
            f"{', '.join(known)}."
        )
    reason = (
        "the only device"
        if len(known) == 1
        else "as named"
        if device is not None
        else f"the first {canonical.partition(':')[0]}"
    )
    announce(f"one replica on {canonical} ({reason}).")
    return support(tf.distribute.OneDeviceStrategy(canonical))
