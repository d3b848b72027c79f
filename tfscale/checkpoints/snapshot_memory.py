"""Memory that one snapshot after the other is copied into, beside the steps that follow."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np


class SnapshotMemory:
    """Arrays that stay, one a variable.

    To copy into memory that a process has used before takes as long as the memory is fast; fresh
    memory comes page by page from the system, and took 5 to 60 times as long here.

    A variable that has an array already is only looked at: `fill` copies what it was then, from
    whatever thread, while training reads it and goes on. What training writes sooner than it is
    copied TensorFlow moves elsewhere first (2.21, whenever a buffer has a second owner), at the
    cost of one more copy; the look is at the old buffer.

    Example:
        >>> memory, variable = SnapshotMemory(), tf.Variable([1.0, 2.0])
        >>> first = memory.taken("v", variable)
        >>> memory.fill()
        >>> second = memory.taken("v", variable)
        >>> _ = variable.assign_add([1.0, 1.0])
        >>> memory.fill()
        >>> second, second is first
        (array([1., 2.], dtype=float32), True)
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._looks: deque[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = deque()

    def taken(self, key: str, variable: Any, *, is_at_hand: bool = True) -> np.ndarray[Any, Any]:
        """Returns the array that holds the variable's value of this moment, once `fill` returns.

        Args:
            key: The variable's key; the next value under it overwrites this one.
            variable: A `tf.Variable`, of one device.
            is_at_hand: Whether it lies in this process's memory. A value from elsewhere is a copy
                already, which would only be kept for longer.
        """
        value = _view(variable)
        array = self._arrays.get(key)
        if array is None or (array.shape, array.dtype) != (value.shape, value.dtype):
            array = self._arrays[key] = np.empty(value.shape, value.dtype)
            is_at_hand = False  # to fill fresh memory takes longer than a step
        if is_at_hand:
            self._looks.append((array, value))
        else:
            np.copyto(array, value)
        return array

    def fill(self) -> None:
        """Copies what was looked at."""
        while self._looks:
            np.copyto(*self._looks.popleft())


def _view(variable: Any) -> np.ndarray[Any, Any]:
    """The value as it lies on the host, without a copy of it."""
    tensor = variable.read_value()
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # a dtype that Python's buffers do not know: bfloat16, float8
        copy: np.ndarray[Any, Any] = tensor.numpy()
        return copy
