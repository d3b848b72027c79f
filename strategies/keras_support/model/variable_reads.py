"""The variable patch: Python numbers of variables that every replica has a copy of (C24).

`float(optimizer.learning_rate)` and `int(optimizer.iterations)`, as callbacks write them, ask
TensorFlow's variable, which has no such conversion where it has copies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_owned


def converted_by(number: type[int] | type[float]) -> Callable[[Any], Any]:
    """Returns what stands in for `Variable.__float__` or `__int__`."""

    def wrap(convert: Any) -> Any:
        @functools.wraps(convert)
        def converted(self: Any) -> Any:
            value = self._value
            is_copied = isinstance(value, tf.distribute.DistributedValues)
            if self.ndim > 0 or not is_copied or not is_owned(value.distribute_strategy):
                return convert(self)
            return number(self.numpy())

        return converted

    return wrap
