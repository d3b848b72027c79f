"""Refuses Keras 2 models (`tf_keras`), because the fixes are for Keras 3.

Under our strategies its layers, optimizers and metrics would train with every defect of the table,
without an error. They are recognised where they make a variable in a
strategy's scope; `tf_keras` itself is never imported.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import tensorflow as tf

_KERAS_2, _KERAS_3 = "tf_keras", "keras"


def refuse_keras_2(strategy: tf.distribute.Strategy) -> None:
    """Lets `strategy` refuse variables that Keras 2 makes in its scope.

    Args:
        strategy: One that was just built.
    """
    create = strategy.extended._create_variable

    @functools.wraps(create)
    def create_variable(next_creator: Any, **arguments: Any) -> Any:
        if _KERAS_2 in sys.modules and _maker() == _KERAS_2:
            raise ValueError(
                "`model` and all its parts must be of Keras 3 (`import keras`) under this strategy."
                f" Received: a variable, name={arguments.get('name')!r}, of {_KERAS_2} (Keras 2), "
                "to which no fix of gradients, metrics and input applies. Import keras instead, "
                "and unset TF_USE_LEGACY_KERAS; or train it under a strategy of tf.distribute."
            )
        return create(next_creator, **arguments)

    strategy.extended._create_variable = create_variable


def _maker() -> str:
    """Returns the package of Keras whose code asks for a variable, or "" if neither does."""
    frame = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in (_KERAS_2, _KERAS_3):
            return package
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
