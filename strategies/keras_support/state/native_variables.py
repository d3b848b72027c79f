"""TensorFlow's own variables in a step: what a replica writes to them must be the same everywhere.

The state of a layer belongs in variables of Keras (`add_weight`), which are saved with the model
and averaged (see `layer_state`). A `tf.Variable` made in the scope has a copy on each replica too,
which is neither saved nor averaged: where it is assigned from a replica's own examples the copies
part. Those that add up when they are read (`synchronization=ON_READ`) are meant to differ.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import OWN
from strategies.keras_support.context.step_context import current_step


def checked_assignment(assign: Any) -> Any:
    """Stands in for assignments of `tf.Variable`: refuses what would differ by replica."""

    @functools.wraps(assign)
    def checked(self: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        step = current_step()
        if (
            step is not None
            and step.state is not None
            and not step.is_updating
            and not step.state.is_assigning
            and self.synchronization != tf.VariableSynchronization.ON_READ
            and step.lineage.of(value) & OWN
        ):
            raise ValueError(
                f"`{self.name}` must be a variable of Keras to be assigned in a step from the "
                "examples of a replica: its copies would part. Received: a tf.Variable. Make it "
                "with layer.add_weight(..., trainable=False), or keras.Variable, in "
                "strategy.scope()."
            )
        return assign(self, value, *args, **kwargs)

    return checked
