"""Local steps: each replica applies its own gradients, and nothing is reduced.

`local_sgd` lets an optimizer take such steps for a round; `apply` and `tape.gradient` check it
here.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.gradient_watch import watch_of

# Optimizers that step locally now, and each replica's examples of the round.
_EXAMPLES: weakref.WeakKeyDictionary[Any, tf.Variable] = weakref.WeakKeyDictionary()


def gradients_of_local_step(optimizer: Any, gradients: list[Gradient | None]) -> Any:
    """Returns this replica's own gradients if `optimizer` steps locally, else None.

    The gradient of an empty replica batch, which is that of a stand-in row, becomes zero.

    Raises:
        ValueError: If a watch would judge the replicas' steps one by one.
    """
    step = current_step()
    if step is None or optimizer not in _EXAMPLES:
        return None
    if watch_of(optimizer) is not None:
        raise ValueError(
            "`callbacks` must not combine LocalUpdates with a callback that skips steps, because "
            "each replica would skip other steps. Received: both. Use one of the two."
        )
    _EXAMPLES[optimizer].assign_add(tf.cast(step.examples, tf.int64))
    step.state.drop_owed()  # they too wait for the end of the round
    return [_of_examples(gradient, step) for gradient in gradients]


def steps_locally(layers: Sequence[Any]) -> bool:
    """Tells whether the model, the first of `layers`, steps without the other replicas."""
    optimizer = getattr(layers[0], "optimizer", None) if layers else None
    return optimizer is not None and optimizer in _EXAMPLES


def _of_examples(gradient: Gradient | None, step: StepContext) -> Gradient | None:
    if gradient is None or tf.get_static_value(step.examples):
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        values = _of_examples(gradient.values, step)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.math.multiply_no_nan(gradient, tf.cast(step.examples > 0, gradient.dtype))


@contextlib.contextmanager
def stepping_locally(optimizer: Any, examples: tf.Variable) -> Iterator[None]:
    """Lets each replica apply its own gradients with `optimizer`.

    Args:
        optimizer: The model's.
        examples: int64, one a replica; the examples of each step are added to it.
    """
    _EXAMPLES[optimizer] = examples
    try:
        yield
    finally:
        del _EXAMPLES[optimizer]
