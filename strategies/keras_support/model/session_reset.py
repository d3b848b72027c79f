"""`clear_session` inside of a scope would take the scope away with everything else.

Keras resets TensorFlow's default graph, which holds the strategies in scope: the next variable is
made outside, and the end of the scope fails with "pop from empty list". keras-tuner does so before
it builds each model.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_owned


def reset_outside_only(reset: Any) -> Any:
    """Stands in for the reset of TensorFlow's default graph: refuses it inside a scope."""

    @functools.wraps(reset)
    def reset_outside(self: Any) -> Any:
        if tf.distribute.has_strategy() and is_owned(tf.distribute.get_strategy()):
            raise RuntimeError(
                "`clear_session` must be called outside of `strategy.scope()`, which it would take "
                "away. Received: a call inside. Call it before `with strategy.scope():`. A tuner "
                "of keras-tuner is searched outside of the scope, and is given the strategy: "
                "RandomSearch(..., distribution_strategy=strategy)."
            )
        return reset(self)

    return reset_outside
