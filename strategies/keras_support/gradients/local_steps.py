"""Local steps: each replica applies its own gradients, and nothing is reduced.

`local_sgd` lets an optimizer take such steps for a round; `apply` and `tape.gradient` check it
here.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.gradient_watch import watch_of


@dataclass
class LocalRound:
    """What the replicas have to join at the end of a round.

    Attributes:
        examples: int64, one a replica; the examples of each step are added to it.
        assigned: By id, the numbers that layers assign. Those of an earlier step of the round
            differ by replica, so what is computed from them does too.
    """

    examples: tf.Variable
    assigned: dict[int, Any] = field(default_factory=dict)

    def note(self, variable: Any) -> None:
        """Notes that a layer assigns a variable.

        Raises:
            ValueError: If the replicas' parts of it are added up.
        """
        if variable.aggregation == "sum":
            raise ValueError(
                "`model` must not add up examples in its layers with LocalUpdates, which takes "
                f"means. Received: {variable.path!r} with aggregation='sum'. Leave LocalUpdates "
                "out."
            )
        if tf.as_dtype(variable.dtype).is_floating:  # integers come from equal ones, as seeds do
            self.assigned[id(variable)] = variable


# Optimizers that step locally now.
_ROUNDS: weakref.WeakKeyDictionary[Any, LocalRound] = weakref.WeakKeyDictionary()


def gradients_of_local_step(optimizer: Any, gradients: list[Gradient | None]) -> Any:
    """Returns this replica's own gradients if `optimizer` steps locally, else None.

    The gradient of an empty replica batch, which is that of a stand-in row, becomes zero.

    Raises:
        ValueError: If a watch would judge the replicas' steps one by one.
    """
    step = current_step()
    if step is None or optimizer not in _ROUNDS:
        return None
    if watch_of(optimizer) is not None:
        raise ValueError(
            "`callbacks` must not combine LocalUpdates with a callback that skips steps, because "
            "each replica would skip other steps. Received: both. Use one of the two."
        )
    own = _ROUNDS[optimizer]
    own.examples.assign_add(tf.cast(step.examples, tf.int64))
    step.state.drop_owed()  # what layers assigned waits for the end of the round too
    for variable in step.state.assigned.values():
        own.note(variable)
    return [_of_examples(gradient, step) for gradient in gradients]


def steps_locally(layers: Sequence[Any]) -> bool:
    """Tells whether the model, the first of `layers`, steps without the other replicas."""
    optimizer = getattr(layers[0], "optimizer", None) if layers else None
    return optimizer is not None and updates_locally(optimizer)


def updates_locally(optimizer: Any) -> bool:
    """Tells whether `optimizer` applies each replica's own gradients now."""
    return optimizer in _ROUNDS


def _of_examples(gradient: Gradient | None, step: StepContext) -> Gradient | None:
    if gradient is None or tf.get_static_value(step.examples):
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        values = _of_examples(gradient.values, step)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.math.multiply_no_nan(gradient, tf.cast(step.examples > 0, gradient.dtype))


@contextlib.contextmanager
def stepping_locally(optimizer: Any, own: LocalRound) -> Iterator[None]:
    """Lets each replica apply its own gradients with `optimizer`.

    Args:
        optimizer: The model's.
        own: Receives what the replicas have to join.
    """
    _ROUNDS[optimizer] = own
    try:
        yield
    finally:
        del _ROUNDS[optimizer]
