"""Copies of tensors between the devices of a replica, whose gradients go the same way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask


def sent(tensor: Any, devices: Sequence[str | None], rank: int) -> Any:
    """Returns a tensor of the first device on the device of a rank, with its mask.

    Only the first rank gets the tensor itself, perhaps: a layer may take the mask off.
    """
    if not tf.is_tensor(tensor):
        return tensor
    copy = _moved(tensor, devices[0], devices[rank])
    mask = get_keras_mask(tensor)
    if mask is not None and rank:
        copy = tf.identity(tensor) if copy is tensor else copy
        set_keras_mask(copy, _moved(mask, devices[0], devices[rank]))
    return copy


def brought(parts: Sequence[Any], devices: Sequence[str | None]) -> list[Any]:
    """Returns tensors, one of each rank, on the first device."""
    return [_moved(part, devices[i], devices[0]) for i, part in enumerate(parts)]


def _moved(tensor: Any, source: str | None, target: str | None) -> Any:
    if source == target or source is None:
        return tensor

    @tf.custom_gradient
    def move(given: Any) -> Any:
        def backward(gradient: Any) -> Any:
            with tf.device(source):
                return tf.identity(gradient)

        return tf.identity(given), backward

    with tf.device(target):
        return move(tensor) if tensor.dtype.is_floating else tf.identity(tensor)
