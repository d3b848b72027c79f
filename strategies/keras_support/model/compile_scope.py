"""The compile patch: what `compile` makes belongs to the model's strategy, wherever it is called.

Keras's own metric of the loss, and an optimizer that is named by a string, are made by `compile`.
Called outside of the scope, it makes them where no replica has a copy of its own: the loss in
history and evaluate is then wrong wherever shares are unequal (S24). Objects that the user made
stand where they were made.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_owned


def compiled_in_scope(compile_model: Any) -> Any:
    """Stands in for `Trainer.compile`: enters the scope of the model's strategy."""

    @functools.wraps(compile_model)
    def in_scope(self: Any, *arguments: Any, **options: Any) -> Any:
        strategy = getattr(self, "_distribute_strategy", None)
        if strategy is None or not is_owned(strategy) or tf.distribute.has_strategy():
            return compile_model(self, *arguments, **options)
        with strategy.scope():
            return compile_model(self, *arguments, **options)

    return in_scope
