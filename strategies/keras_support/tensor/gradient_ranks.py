"""Which gradients are of divided weights: they are reduced between the devices that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext
from strategies.keras_support.placement.replica_devices import devices_of_this_replica
from strategies.keras_support.tensor.parts import is_divided


def ranks_of(gradients: Sequence[Any], step: StepContext) -> dict[int, int]:
    """Returns, by place, the rank of each dense gradient that is not on the replica's first device.

    Args:
        gradients: This replica's; None where there is none.
        step: Of this replica.
    """
    if tf.executing_eagerly() or not any(map(is_divided, step.layers)):
        return {}
    devices = devices_of_this_replica()
    return {
        i: devices.index(g.device)
        for i, g in enumerate(gradients)
        if isinstance(g, tf.Tensor) and g.device in devices[1:]
    }
