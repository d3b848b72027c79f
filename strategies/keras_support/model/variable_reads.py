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
from strategies.keras_support.patching.patch import Patch


def _converted_by(number: type[int] | type[float]) -> Callable[[Any], Any]:
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


_VARIABLE = "keras.src.backend.common.variables:Variable"
FLOAT = Patch(f"{_VARIABLE}.__float__", frozenset({"c22738de193a"}), _converted_by(float))
INT = Patch(f"{_VARIABLE}.__int__", frozenset({"fda0e0c633f4"}), _converted_by(int))
