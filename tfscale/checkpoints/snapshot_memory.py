"""Memory that one snapshot after the other is copied into."""

from __future__ import annotations

from typing import Any

import numpy as np


class SnapshotMemory:
    """Arrays that stay, one a variable.

    To copy into memory that a process has used before takes as long as the memory is fast; fresh
    memory comes page by page from the system, and took 5 to 60 times as long here.

    Example:
        >>> import tensorflow as tf
        >>> memory, variable = SnapshotMemory(), tf.Variable([1.0, 2.0])
        >>> first = memory.copied("v", variable)
        >>> _ = variable.assign_add([1.0, 1.0])
        >>> first
        array([1., 2.], dtype=float32)
        >>> memory.copied("v", variable) is first
        True
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}

    def copied(self, key: str, variable: Any) -> np.ndarray[Any, Any]:
        """Returns a copy of a variable's value, which the next one of the same key overwrites.

        Args:
            key: The variable's key.
            variable: A `tf.Variable`, of one device.
        """
        value = _view(variable)
        array = self._arrays.get(key)
        if array is None or (array.shape, array.dtype) != (value.shape, value.dtype):
            array = self._arrays[key] = np.empty(value.shape, value.dtype)
        np.copyto(array, value)
        return array


def _view(variable: Any) -> np.ndarray[Any, Any]:
    """The value as it lies on the host, without a copy of it.

    While the view lives TensorFlow moves the variable elsewhere before it writes (2.21, whenever a
    buffer has a second owner), which costs more than a copy; so let it go before the next step.
    """
    tensor = variable.read_value()
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # a dtype that Python's buffers do not know: bfloat16, float8
        copy: np.ndarray[Any, Any] = tensor.numpy()
        return copy
