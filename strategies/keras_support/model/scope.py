"""Calls and the strategy's scope: `compile` enters it, and `clear_session` must be outside it.

Keras's own metric of the loss, and an optimizer that is named by a string, are made by `compile`.
Called outside of the scope, it makes them without a copy for each replica: the loss in history and
in evaluate is then wrong if replica batches differ in size (S24). Objects that the user made are
not changed.

`clear_session` resets TensorFlow's default graph, which contains the strategies in scope: the next
variable is made outside, and the end of the scope fails with "pop from empty list". keras-tuner
calls it before it builds each model.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_owned


class _OneUnlessMeasured(int):
    """The `steps_per_execution` of a model whose `compile` left it out: 1, for Keras."""


def compiled_in_scope(compile_model: Any) -> Any:
    """Replaces `Trainer.compile`: enters the scope of the model's strategy.

    It notes whether the call left out `steps_per_execution`; see `step.train_function`.
    """
    place = list(inspect.signature(compile_model).parameters).index("steps_per_execution") - 1

    @functools.wraps(compile_model)
    def in_scope(self: Any, *arguments: Any, **options: Any) -> Any:
        strategy = getattr(self, "_distribute_strategy", None)
        if strategy is None or not is_owned(strategy):
            return compile_model(self, *arguments, **options)
        around = contextlib.nullcontext() if tf.distribute.has_strategy() else strategy.scope()
        with around:
            result = compile_model(self, *arguments, **options)
        if "steps_per_execution" not in options and len(arguments) <= place:
            self.steps_per_execution = _OneUnlessMeasured(1)
        return result

    return in_scope


def leaves_execution_size_open(model: Any) -> bool:
    """Tells whether `model` was compiled without `steps_per_execution`, nor was it set since."""
    return isinstance(model.steps_per_execution, _OneUnlessMeasured)


def reset_outside_only(reset: Any) -> Any:
    """Replaces the reset of TensorFlow's default graph: refuses it inside a scope."""

    @functools.wraps(reset)
    def reset_outside(self: Any) -> Any:
        if tf.distribute.has_strategy() and is_owned(tf.distribute.get_strategy()):
            raise RuntimeError(
                "`clear_session` must be called outside of `strategy.scope()`, which it would "
                "remove. Received: a call inside. Call it before `with strategy.scope():`. With "
                "keras-tuner, call `search` outside of the scope and pass the strategy to the "
                "tuner: "
                "RandomSearch(..., distribution_strategy=strategy)."
            )
        return reset(self)

    return reset_outside
