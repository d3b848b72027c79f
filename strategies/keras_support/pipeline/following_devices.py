"""Lets operations run where their inputs are, so that gradients and slots stay with their stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def following_inputs() -> Iterator[None]:
    """Places each operation that is traced inside on the device of its largest input.

    One that names a device itself stays there, as does one without inputs. Eagerly, nothing
    changes.
    """
    if tf.executing_eagerly():
        yield
        return
    with tf.compat.v1.get_default_graph().device(_device_of_largest_input):
        yield


def _device_of_largest_input(operation: Any) -> str:
    if operation.device:  # what is returned replaces it
        return str(operation.device)
    tensors = [t for t in operation.inputs if t.device and t.dtype != tf.resource]
    largest = max(tensors, key=lambda t: t.shape.num_elements() or 0, default=None)
    return "" if largest is None else str(largest.device)
