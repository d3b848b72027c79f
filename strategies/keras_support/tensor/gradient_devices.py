"""Gradients and updates of divided weights, on the device where their inputs are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import outer_tensor
from strategies.keras_support.placement.replica_devices import (
    devices_by_replica,
    devices_of_this_replica,
)
from strategies.keras_support.tensor.parts import is_divided


@contextlib.contextmanager
def beside_parts(layers: Sequence[Any]) -> Iterator[None]:
    """Places what is traced inside on that device of the replica where its largest input is.

    An operation that names a device itself stays there. So does everything else if no layer is
    divided, or eagerly: TensorFlow has no gradient functions with a device.

    Args:
        layers: Of the model that is trained.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or tf.executing_eagerly() or not any(map(is_divided, layers)):
        yield
        return
    if len(devices_by_replica(replica.strategy)[0]) == 1:
        yield
        return
    others = set(devices_of_this_replica()[1:])

    def choose(operation: Any) -> str:
        if operation.device:  # what is returned replaces it
            return str(operation.device)
        device = _device_of_inputs(operation)
        return device if device in others else ""

    with tf.compat.v1.get_default_graph().device(choose):
        yield


def _device_of_inputs(operation: Any) -> str:
    """Returns where an operation's variable is, or else its largest input."""
    for tensor in operation.inputs:
        if tensor.dtype == tf.resource:
            return _device_of(tensor)
    largest = max(operation.inputs, key=lambda t: t.shape.num_elements() or 0, default=None)
    return "" if largest is None else _device_of(largest)


def _device_of(tensor: Any) -> str:
    """Returns where a tensor is; of a variable's handle where the variable is."""
    while tf.is_symbolic_tensor(tensor) and not tensor.device:
        if tensor.op.type == "ReadVariableOp":  # placed later, where the variable is
            tensor = tensor.op.inputs[0]
            continue
        outer = outer_tensor(tensor) if tensor.op.type == "Placeholder" else None
        if outer is None:
            return ""
        tensor = outer
    return str(tensor.device)
